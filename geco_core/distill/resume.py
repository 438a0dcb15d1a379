"""Checkpoints of a training: everything a later step depends on, and which of them is continued.

A checkpoint holds the trainer's state (weights, optimisers, moving averages), the step, the random
state of every process and the fingerprint of the configuration. The position of the sampler is the
step itself, because batches are a pure function of it. The number of processes may change between
a checkpoint and the next.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from geco_core.checkpoints.legacy import load_tensors
from geco_core.checkpoints.refusals import CheckpointError
from geco_core.distill.world import World
from geco_core.errors import Fatal, Retryable
from geco_core.training.rng import rng_state, seed_torch, set_rng_state

FORMAT = 1


class CheckpointStore(Protocol):
    """Where checkpoints are kept; one appears whole or not at all."""

    def steps(self) -> list[int]:
        """Steps of the stored checkpoints, the newest first."""
        ...

    def put(self, step: int, path: Path) -> None:
        """Store a file as the checkpoint of `step`, and drop the oldest ones beyond the limit."""
        ...

    def fetch(self, step: int, path: Path) -> str:
        """Write a checkpoint to a local file; returns what is wrong with it, "" for nothing.

        Raises `Retryable` or `Fatal` when the store can not be read.
        """
        ...

    def withdraw(self, step: int) -> None:
        """Count a damaged checkpoint no longer."""
        ...


class Trainer(Protocol):
    """What a loop drives, see `stage1_trainer` and `stage2_trainer`."""

    def step(self, step: int) -> Mapping[str, float]:
        """One update; a pure function of the state and `step` (0-based)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything a later `step` depends on, as tensors and plain data."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. Raises `Fatal` when it does not fit."""
        ...


class Checkpoints:
    """Saves and resumes one training.

    Args:
        store: where.
        fingerprint: of everything the result depends on; a checkpoint of another is refused.
        seed: seeds the global generators of processes that have no saved state.
        world: the processes that train together; all of them call every method.
        device: whose random state is kept beside the CPU's.
    """

    def __init__(
        self,
        store: CheckpointStore,
        fingerprint: str,
        seed: int,
        world: World,
        device: torch.device,
    ) -> None:
        self._store, self._fingerprint, self._seed = store, fingerprint, seed
        self._world, self._device = world, device

    def save(self, step: int, trainer: Trainer) -> None:
        """Store the state after `step` updates; durable when this returns on the first process."""
        states = [self._world.gather(state) for state in rng_state(self._device)]
        if self._world.rank == 0:
            content = {
                "format": FORMAT,
                "step": step,
                "fingerprint": self._fingerprint,
                "world": self._world.size,
                "rng": states,
                "trainer": trainer.state_dict(),
            }
            with tempfile.TemporaryDirectory(prefix="geco-checkpoint-") as folder:
                path = Path(folder) / "checkpoint.pt"
                torch.save(content, path)
                self._store.put(step, path)

    def resume(self, trainer: Trainer) -> tuple[int, list[str]]:
        """Load the newest readable checkpoint into the trainer.

        Returns:
            The number of updates made so far, 0 without checkpoints, and a line for every damaged
            checkpoint that was passed over (on the first process).

        Raises:
            Fatal: a checkpoint of another configuration or other networks, or all are damaged.
            Retryable: the store failed.
        """
        problems: list[str] = []
        with tempfile.TemporaryDirectory(prefix="geco-checkpoint-") as folder:
            path = Path(folder) / "checkpoint.pt"
            content: dict[str, Any] | None = None
            if self._world.rank == 0:
                content, problems = self._newest(path)
            step = self._world.share(int(content["step"]) if content else 0)
            if step and content is None:
                content, problem = self._read(step, path)
                if content is None:
                    raise Retryable(f"checkpoint {step} reads elsewhere, here {problem}")
            if content is None:
                self._seed_fresh(0)
                return 0, problems
            trainer.load_state_dict(content["trainer"])
            self._restore_rng(step, content["rng"])
        return step, problems

    def _newest(self, path: Path) -> tuple[dict[str, Any] | None, list[str]]:
        problems = []
        steps = self._store.steps()
        for step in steps:
            content, problem = self._read(step, path)
            if content is not None:
                return content, problems
            self._store.withdraw(step)
            problems.append(f"step {step}: {problem}")
        if problems:
            raise Fatal(
                f"no checkpoint of {len(steps)} can be read: {'; '.join(problems)}",
                stage="train",
                remedy="give another folder, or run the same command again to begin anew",
            )
        return None, []

    def _read(self, step: int, path: Path) -> tuple[dict[str, Any] | None, str]:
        """The content of a checkpoint; None and what is wrong with it when it is damaged."""
        problem = self._store.fetch(step, path)
        if problem:
            return None, problem
        try:
            content = load_tensors(path)
        except CheckpointError as error:
            return None, error.message
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            return None, f"it is no checkpoint of format {FORMAT}"
        if content["fingerprint"] != self._fingerprint:
            raise Fatal(
                f"checkpoint {step} was made with another configuration",
                stage="train",
                remedy="give another folder, or the settings it was started with",
            )
        return content, ""

    def _restore_rng(self, step: int, states: Sequence[Sequence[torch.Tensor]]) -> None:
        rank = self._world.rank
        if rank < len(states[0]):
            set_rng_state([kind[rank] for kind in states], self._device)
        else:
            self._seed_fresh(step)

    def _seed_fresh(self, step: int) -> None:
        name = f"{self._seed}/{step}/{self._world.rank}/torch"
        seed_torch(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1)
