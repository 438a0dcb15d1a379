"""What the trainers over a folder of objects share: one network, its optimiser and its average.

A step is a pure function of the weights, the run seed and the step's number: every draw belongs to
(seed, step, place in the global batch).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from geco_core.config.train import ExamplesConfig, UpdatesConfig
from geco_core.distill.optimise import Piece, batch_pieces, refuse_foreign
from geco_core.distill.world import World
from geco_core.training.ahead import RowsAhead
from geco_core.training.crm_frame_rows import FrameRows
from geco_core.training.crm_render_rows import RenderRows
from geco_core.training.loop import Ema
from geco_core.training.updates import make_stepper

M = TypeVar("M", bound=nn.Module)
R = TypeVar("R", FrameRows, RenderRows)


class FolderTrainer(ABC, Generic[M, R]):
    """A network with its optimiser; subclasses say what a step's gradients are.

    Args:
        model: trained in place.
        rows: what is trained on.
        updates: of the optimisation.
        examples: how rows are read ahead.
        seed: of every draw.
        world: the processes that train together.
    """

    def __init__(
        self,
        model: M,
        rows: R,
        updates: UpdatesConfig,
        examples: ExamplesConfig,
        seed: int,
        world: World,
    ) -> None:
        self.model, self.updates = model, updates
        self._rows, self._seed, self._world = rows, seed, world
        self._optimise = updates.optimise(seed)
        self._steps = make_stepper([(list(model.parameters()), updates.rate)], updates, seed, world)
        self.ema = Ema(model, updates.ema_decay) if updates.ema_decay else None
        self._ahead: RowsAhead[Any] = RowsAhead(
            rows.row, self._pieces, updates.steps, threads=examples.threads, ahead=examples.ahead
        )

    def step(self, step: int) -> Mapping[str, float]:
        """One update.

        Returns:
            The loss and its parts, the gradient's norm and how many objects could not be read,
            averaged over the processes.

        Raises:
            Fatal: a loss or gradient became non-finite, or no object can be read.
        """
        numbers = self._gather(step)
        numbers["norm"] = self._steps.update(step)
        numbers["bad_objects"] = float(len(self._rows.folder.bad))
        if self.ema is not None:
            self.ema.update(self.model, step)
        return self._world.mean(numbers)

    @abstractmethod
    def _gather(self, step: int) -> dict[str, float]:
        """Add the gradients of this process's pieces; returns their weighted numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Everything a later `step` depends on, as tensors and plain data."""
        return {
            "weights": self.model.state_dict(),
            "steps": self._steps.state_dict(),
            "ema": self.ema.shadow if self.ema else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. Raises `Fatal` when it does not fit."""
        try:
            self.model.load_state_dict(state["weights"])
            self._steps.load_state_dict(state["steps"])
            if self.ema is not None:
                self.ema.load(state["ema"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise refuse_foreign(error) from error

    def weights(self) -> dict[str, Tensor]:
        """What is exported: the average where there is one."""
        return dict(self.ema.shadow) if self.ema else self.model.state_dict()

    def _shown_rows(self, count: int) -> tuple[range, bool]:
        """Rows to look at, and whether they are held-out ones."""
        heldout = len(self._rows.folder.heldout)
        return range(min(count, heldout or len(self._rows))), heldout > 0

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The average in the place of the weights, where there is one."""
        if self.ema is not None:
            self.ema.swap(self.model)
        try:
            yield
        finally:
            if self.ema is not None:
                self.ema.swap(self.model)

    def _pieces(self, step: int) -> list[Piece]:
        return batch_pieces(len(self._rows), step, self._optimise, self._world)
