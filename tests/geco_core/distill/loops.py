"""A trainer of three numbers and a store in memory, for tests of the loop."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geco_core.distill.loop import LoopSettings
from geco_core.distill.resume import Checkpoints
from geco_core.distill.world import World


class Drift:
    """Every step adds a number of the global generator, as dropout would draw it."""

    def __init__(self) -> None:
        self.value = torch.zeros(3)
        self.made: list[int] = []

    def step(self, step: int) -> Mapping[str, float]:
        self.made.append(step)
        self.value = self.value * 0.5 + torch.rand(3) + step
        return {"loss": float(self.value.sum())}

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value = state["value"]


class FolderStore:
    """A `CheckpointStore` on a folder."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.keep = folder, keep
        self.damaged: set[int] = set()

    def steps(self) -> list[int]:
        return sorted((int(path.stem) for path in self.folder.glob("*.pt")), reverse=True)

    def put(self, step: int, path: Path) -> None:
        shutil.copy(path, self.folder / f"{step}.pt")
        self.damaged.discard(step)
        for old in self.steps()[self.keep :]:
            self.withdraw(old)

    def fetch(self, step: int, path: Path) -> str:
        shutil.copy(self.folder / f"{step}.pt", path)
        return "its sha256 is not the recorded one" if step in self.damaged else ""

    def withdraw(self, step: int) -> None:
        (self.folder / f"{step}.pt").unlink()


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, dict[str, float | str]]] = []
        self.flushed = 0

    def emit(self, kind: str, step: int, numbers: Mapping[str, float | str]) -> None:
        self.events.append((kind, step, dict(numbers)))

    def sheet(self, step: int, image: np.ndarray) -> None:
        self.events.append(("sheet", step, {}))

    def flush(self) -> None:
        self.flushed += 1

    def steps(self, kind: str) -> list[int]:
        return [step for name, step, _ in self.events if name == kind]


SETTINGS = LoopSettings(steps=10, batch_size=4, checkpoint_every=3, log_every=2, sample_every=4)


def checkpoints(
    folder: Path, fingerprint: str = "f", world: World | None = None, keep: int = 2
) -> Checkpoints:
    store = FolderStore(folder, keep)
    return Checkpoints(store, fingerprint, 7, world or World(), torch.device("cpu"))
