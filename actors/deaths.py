"""What an error of Ray says about the end of a replica: why, in which words, and who could be to
blame.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray.exceptions import ActorUnavailableError, NodeDiedError, OutOfMemoryError, RayError

from geco_core.errors import Reason

MAX_WORDS = 300


@dataclass(frozen=True)
class Death:
    """How a replica ended.

    Attributes:
        reason: crashed or out_of_memory, as far as Ray can tell.
        detail: its last words.
        node_lost: it went down with its node; no row of it is to blame.
        certain: False while Ray only says that it can not be reached.
    """

    reason: Reason
    detail: str
    node_lost: bool = False
    certain: bool = True


def explain(error: RayError) -> Death:
    """Read an error.

    RayActorError, but also OutOfMemoryError, WorkerCrashedError, NodeDiedError and
    ActorUnavailableError, which are none: whatever Ray raises for a call, the replica is lost.
    """
    # Not "OOM": Ray names the OOM killer among the possible causes of every death.
    memory = isinstance(error, OutOfMemoryError) or "running low on memory" in str(error)
    text = str(error).lower()
    return Death(
        reason=Reason.OUT_OF_MEMORY if memory else Reason.CRASHED,
        detail=_last_words(error),
        node_lost=isinstance(error, NodeDiedError) or "node has died" in text,
        certain=not isinstance(error, ActorUnavailableError),
    )


def _last_words(error: RayError) -> str:
    text = str(error).partition("Some common causes")[0]  # a list of guesses follows
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    exits = next((line for line in lines if "exit" in line.lower()), "")
    return (exits or (lines[0] if lines else type(error).__name__))[:MAX_WORDS]
