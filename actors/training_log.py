"""Where a training tells what happens: the store, the log, TensorBoard, Weights & Biases, a driver.

Only the first process of a training has any of them.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geco_core.distill.loop import Events
from geco_core.errors import ConfigError
from infra.storage import LocalStorage, Storage
from infra.telemetry import log_event
from infra.training_folder import put_events, put_sample

log = logging.getLogger(__name__)

WANDB_HELP = 'pip install "geco-forge[wandb]"'
TENSORBOARD = "tensorboard"
Numbers = Mapping[str, float | str]


class StoredEvents:
    """Events as JSON lines, sample sheets as PNG, in the stage's folder.

    Args:
        storage: of the stage.
        stage: its name, in every event.
        now: the time, ISO 8601.
    """

    def __init__(self, storage: Storage, stage: str, now: Callable[[], str]) -> None:
        self._storage, self._stage, self._now = storage, stage, now
        self._waiting: list[dict[str, Any]] = []

    def emit(self, kind: str, step: int, numbers: Numbers) -> None:
        """See `Events`."""
        event = {"kind": kind, "stage": self._stage, "step": step}
        self._waiting.append({**event, "numbers": dict(numbers), "time": self._now()})

    def sheet(self, step: int, image: np.ndarray) -> None:
        """See `Events`."""
        put_sample(self._storage, step, png(image))

    def flush(self) -> None:
        """See `Events`."""
        if self._waiting:
            put_events(self._storage, self._waiting)
            self._waiting = []


class LoggedEvents:
    """Events as lines of the process's own log."""

    def __init__(self, stage: str) -> None:
        self._stage = stage

    def emit(self, kind: str, step: int, numbers: Numbers) -> None:
        """See `Events`."""
        level = logging.WARNING if kind == "damaged" else logging.INFO
        log_event(log, f"{self._stage}_{kind}", level=level, step=step, **numbers)

    def sheet(self, step: int, image: np.ndarray) -> None:
        """See `Events`."""

    def flush(self) -> None:
        """See `Events`."""


class ToldEvents:
    """Events handed to a function: the driver's."""

    def __init__(self, tell: Callable[[str, int, dict[str, float | str]], object]) -> None:
        self._tell = tell

    def emit(self, kind: str, step: int, numbers: Numbers) -> None:
        """See `Events`."""
        self._tell(kind, step, dict(numbers))

    def sheet(self, step: int, image: np.ndarray) -> None:
        """See `Events`."""

    def flush(self) -> None:
        """See `Events`."""


class TensorBoardEvents:
    """Scalars and sheets for TensorBoard; its files grow in place, so the folder is local.

    Args:
        folder: of the event files.
        stage: prefix of the names.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self._folder, self._stage = folder, stage
        self._writer: Any = None

    def emit(self, kind: str, step: int, numbers: Numbers) -> None:
        """See `Events`. What an earlier attempt wrote about later steps is hidden at the start."""
        if kind == "started":
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - a second to import

            self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)
        if kind == "train":
            for name, value in numbers.items():
                self._writer.add_scalar(f"{self._stage}/{name}", value, step)

    def sheet(self, step: int, image: np.ndarray) -> None:
        """See `Events`."""
        self._writer.add_image(f"{self._stage}/samples", image, step, dataformats="HWC")

    def flush(self) -> None:
        """See `Events`."""
        if self._writer is not None:
            self._writer.flush()


class WandbEvents:
    """The same for Weights & Biases. A resumed stage goes on in the same run.

    Args:
        project: its name there.
        stage: group of the names.
        folder: URI of the stage, which the run's id is made of.

    Raises:
        ConfigError: the package is not installed.
    """

    def __init__(self, project: str, stage: str, folder: str) -> None:
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            raise ConfigError(
                "train.wandb_project is set, but the package wandb is not installed",
                stage="train",
                remedy=f"{WANDB_HELP}, or set train.wandb_project=",
            ) from error
        self._run = self._wandb.init(
            project=project,
            id=hashlib.sha256(folder.encode()).hexdigest()[:16],
            name=stage,
            resume="allow",
            dir=tempfile.mkdtemp(prefix="geco-wandb-"),
        )
        self._stage = stage

    def emit(self, kind: str, step: int, numbers: Numbers) -> None:
        """See `Events`."""
        if kind == "train":
            named = {f"{self._stage}/{name}": value for name, value in numbers.items()}
            self._run.log(named, step=step)
        if kind in {"finished", "stopped"}:
            self._run.finish()

    def sheet(self, step: int, image: np.ndarray) -> None:
        """See `Events`."""
        self._run.log({f"{self._stage}/samples": self._wandb.Image(image)}, step=step)

    def flush(self) -> None:
        """See `Events`."""


class AllEvents:
    """Several listeners as one, told in order."""

    def __init__(self, listeners: Sequence[Events]) -> None:
        self._listeners = list(listeners)

    def emit(self, kind: str, step: int, numbers: Numbers) -> None:
        """See `Events`."""
        for listener in self._listeners:
            listener.emit(kind, step, numbers)

    def sheet(self, step: int, image: np.ndarray) -> None:
        """See `Events`."""
        for listener in self._listeners:
            listener.sheet(step, image)

    def flush(self) -> None:
        """See `Events`."""
        for listener in self._listeners:
            listener.flush()


def stage_events(
    storage: Storage, stage: str, wandb_project: str, now: Callable[[], str], told: Events
) -> AllEvents:
    """All listeners of a stage.

    Args:
        storage: of the stage.
        stage: its name.
        wandb_project: empty for none.
        now: the time, ISO 8601.
        told: one more.

    Raises:
        ConfigError: a package is missing.
    """
    listeners: list[Events] = [StoredEvents(storage, stage, now), told]
    if isinstance(storage, LocalStorage):
        listeners.append(TensorBoardEvents(storage.root / TENSORBOARD, stage))
    if wandb_project:
        listeners.append(WandbEvents(wandb_project, stage, storage.uri))
    return AllEvents(listeners)


def png(image: np.ndarray) -> bytes:
    """An image uint8 [H, W, 3] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
