"""What Ray's errors say: deaths of nodes, of processes, for memory, and mere silence."""

from __future__ import annotations

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    WorkerCrashedError,
)

from actors.deaths import explain
from geco_core.errors import Reason


def test_lesson_2_errors_that_are_no_actor_errors_are_deaths_too() -> None:
    for error in (OutOfMemoryError("low"), WorkerCrashedError(), NodeDiedError("node 3")):
        assert isinstance(error, RayError)
        assert explain(error).certain
    assert explain(OutOfMemoryError("low")).reason is Reason.OUT_OF_MEMORY


def test_a_lost_node_is_told_from_a_lost_process() -> None:
    assert explain(NodeDiedError("node 3")).node_lost
    dead = ActorDiedError()
    assert not explain(dead).node_lost
    dead.error_msg = "The actor died because its node has died. Node Id: 12"
    assert explain(dead).node_lost


def test_an_actor_that_can_not_be_reached_is_not_dead_yet() -> None:
    silent = ActorUnavailableError("socket closed", b"\0" * 16)
    assert not explain(silent).certain


def test_guesses_of_ray_are_no_last_words() -> None:
    dead = ActorDiedError()
    dead.error_msg = (
        "The actor died.\nWorker exit type: SYSTEM_ERROR Worker unexpectedly exits. "
        "Some common causes include: (1) the process was killed by the OOM killer"
    )
    death = explain(dead)
    assert death.reason is Reason.CRASHED
    assert death.detail.startswith("Worker exit type: SYSTEM_ERROR")
    assert "OOM" not in death.detail
