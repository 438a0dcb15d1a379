"""One row on its way through the stages: what is known so far, and how an error at a stage border
ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.memory import is_out_of_memory
from actors.traces import trace_digest
from geco_core.errors import BadItem, Fatal, ForgeError, Reason
from geco_core.types import Asset, Condition, Outcome, Status
from infra.fetch import FetchTimeout
from infra.rows import Row

MAX_MESSAGE = 500


class DeviceFault(Exception):
    """The device context is broken: no later call can succeed, so the process must end."""


@dataclass(slots=True)
class ItemRun:
    """A row being made. `outcome` is set exactly once.

    `spent_s` is the time it has taken so far, all stages together; `timing` also holds parts of
    stages.
    """

    row: Row
    seed: int
    timing: dict[str, float] = field(default_factory=dict)
    spent_s: float = 0.0
    attempts: int = 0
    condition: Condition | None = None
    source_sha256: str = ""
    notes: tuple[str, ...] = ()
    outcome: Outcome | None = None

    def add_time(self, stage: str, seconds: float) -> None:
        """Attribute seconds to a stage."""
        self.timing[stage] = self.timing.get(stage, 0.0) + seconds
        self.spent_s += seconds

    def add_part(self, part: str, seconds: float) -> None:
        """Attribute seconds to a part of a stage."""
        self.timing[part] = self.timing.get(part, 0.0) + seconds

    def done(self, asset: Asset) -> None:
        """End as done."""
        self.notes = (*self.notes, *asset.notes)
        self._end(Status.DONE, asset=asset)

    def failed(self, reason: Reason, message: str, stage: str) -> None:
        """End as failed."""
        self._end(Status.FAILED, reason, message, stage)

    def refused(self) -> None:
        """End with the problem the manifest row already has."""
        problem = self.row.problem
        assert problem is not None
        self._end(problem.status, problem.reason, problem.message, "plan")

    def failed_by(self, error: Exception, stage: str) -> None:
        """End as failed by an exception of `stage`.

        Raises:
            Fatal: the error concerns the whole run.
            DeviceFault: ... the whole process.
        """
        if isinstance(error, Fatal) or is_device_fault(error):
            raise error if isinstance(error, Fatal) else DeviceFault(str(error)) from error
        if isinstance(error, ForgeError):
            named = isinstance(error, (BadItem, FetchTimeout))
            reason = error.reason if named else default_reason(error, stage)
            text = f"{error.message} ({error.remedy})" if error.remedy else error.message
            self.failed(reason, text, error.stage or stage)
        else:
            text = f"{type(error).__name__}: {error} [traceback {trace_digest(error)}]"
            self.failed(default_reason(error, stage), text, stage)

    def _end(
        self,
        status: Status,
        reason: Reason | None = None,
        message: str = "",
        stage: str = "",
        asset: Asset | None = None,
    ) -> None:
        self.condition = None  # a megabyte each: let it go as soon as it is used
        self.outcome = Outcome(
            item_id=self.row.item.item_id,
            status=status,
            seed=self.seed,
            reason=reason,
            message=message[:MAX_MESSAGE],
            stage=stage,
            attempts=self.attempts,
            asset=asset,
            timing=self.timing,
            source_sha256=self.source_sha256,
            notes=self.notes,
        )


def default_reason(error: Exception, stage: str) -> Reason:
    """Reason of an exception that does not name one."""
    if is_out_of_memory(error):
        return Reason.OUT_OF_MEMORY
    by_stage: Mapping[str, Reason] = {
        "fetch": Reason.FETCH_FAILED,
        "finish": Reason.FINISHING_FAILED,
    }
    return by_stage.get(stage, Reason.GENERATION_FAILED)


def is_device_fault(error: BaseException) -> bool:
    """A CUDA error other than running out of memory poisons the context of its process."""
    if is_out_of_memory(error):
        return False
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
