"""Poison: every fault is what it says, and its share of the items is what was asked for."""

from __future__ import annotations

import faulthandler
import multiprocessing
import pickle
import resource
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from geco_core.errors import Reason
from geco_core.systems.noop import NoopConfig, box, expected_reason
from geco_core.systems.noop_faults import (
    FAULTS,
    REASONS,
    DeadlyMesh,
    break_generation,
    broken_mesh,
    fault_of,
)


def exit_code(fault: str) -> int | None:
    """How a process ends that meets a fault."""
    return exit_code_of(break_generation, fault)


def exit_code_of(action: Callable[[Any], object], argument: object) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=quietly, args=(action, argument))
    process.start()
    process.join(20)
    return process.exitcode


def quietly(action: Callable[[Any], object], argument: object) -> None:
    faulthandler.disable()  # what it would print is what the test wants to happen
    action(argument)


def test_shares_are_what_was_asked_for_and_nobody_is_hit_twice() -> None:
    poison = dict.fromkeys(FAULTS, 20.0)
    found = Counter(fault_of({}, poison, f"item-{k}") for k in range(20_000))
    assert set(found) == {None, *FAULTS}
    assert all(320 < found[fault] < 480 for fault in FAULTS)
    assert fault_of({"item-0": "oom"}, poison, "item-0") == "oom"


def test_the_id_alone_decides() -> None:
    low = {k for k in range(2000) if fault_of({}, {"generate": 20}, f"i{k}")}
    high = {k for k in range(2000) if fault_of({}, {"generate": 40}, f"i{k}")}
    assert 20 < len(low) < len(high)
    assert low <= high


def test_every_fault_has_its_reason() -> None:
    assert set(REASONS) == set(FAULTS) - {"fatal"}
    config = NoopConfig(faults={"a": "hang", "b": "fatal"}, poison={"empty": 500})
    assert expected_reason(config, "a") is Reason.TIMED_OUT
    assert expected_reason(config, "b") is None
    assert {expected_reason(config, f"i{k}") for k in range(50)} == {None, Reason.EMPTY_MESH}


@pytest.mark.parametrize(
    "poison", [{"typo": 1}, {"oom": -1}, {"oom": "x"}, {"oom": 600, "hang": 401}]
)
def test_impossible_poison_is_refused(poison: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="poison"):
        NoopConfig(poison=poison)


def test_deadly_faults_kill() -> None:
    assert exit_code("segfault") == -signal.SIGSEGV
    assert exit_code("sigkill") == -signal.SIGKILL
    assert exit_code("none of them") == 0


def test_memory_ends_at_the_limit_of_the_process() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, before[1]))
    try:
        with pytest.raises(MemoryError):
            break_generation("oom")
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def look(data: bytes) -> None:
    pickle.loads(data).vertices.sum()


def test_a_deadly_mesh_travels_and_then_kills() -> None:
    mesh = broken_mesh("finish", box(1))
    data = pickle.dumps(mesh)
    assert isinstance(pickle.loads(data), DeadlyMesh)
    assert np.array_equal(mesh.faces, box(1).faces)
    assert exit_code_of(look, data) == -signal.SIGSEGV
