"""One row through its stages: what each error costs, and how long each may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.finishing import ChildFinisher
from actors.shard_worker import Worker
from actors.watchdog import NoWatchdog
from geco_core.config.run import StageTimeouts
from geco_core.errors import BadItem, Reason, Retryable
from geco_core.types import Condition, Generated, Item
from infra.fetch import FetchTimeout
from tests.actors.shards import batches, reasons, run, worker

FAULTS = {
    "prepare": ("generation_failed", "prepare", 0),
    "bad_item": ("corrupt_image", "prepare", 0),
    "generate": ("generation_failed", "generate", 2),
    "non_finite": ("non_finite", "finish", 1),
    "empty": ("empty_mesh", "finish", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_poison_item_costs_itself_only(tmp_path: Path, fault: str) -> None:
    rows = run(worker(tmp_path, faults={"i1": fault}))
    reason, stage, attempts = FAULTS[fault]
    assert reasons(rows) == {"i1": reason}
    assert (rows["i1"]["stage"], rows["i1"]["attempts"]) == (stage, attempts)
    assert rows["i1"]["message"]
    assert rows["i1"]["glb"] is None


def test_a_wrong_number_of_results_fails_the_items(tmp_path: Path) -> None:
    made = worker(tmp_path)
    made.system.generate = lambda *_: []  # type: ignore[method-assign]
    assert set(reasons(run(made)).values()) == {"generation_failed"}


def test_a_bad_item_from_generate_fails_alone(tmp_path: Path) -> None:
    made = worker(tmp_path)
    whole = made.system.generate

    def generate(conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        results = whole(conditions, seeds)
        results[0] = BadItem("no surface", reason=Reason.EMPTY_MESH, stage="extract")
        return results

    made.system.generate = generate  # type: ignore[method-assign]
    rows = run(made)
    assert reasons(rows) == {"i0": "empty_mesh", "i3": "empty_mesh"}
    assert rows["i0"]["stage"] == "extract"
    assert np.isfinite(rows["i1"]["mesh"]["volume"])


def test_an_asset_is_not_finished_again(tmp_path: Path) -> None:
    made = worker(tmp_path, output="asset", faults={"i1": "empty"})
    rows = run(made)
    assert reasons(rows) == {"i1": "empty_mesh"}
    assert len({rows[f"i{k}"]["glb_sha256"] for k in (0, 2, 3, 4, 5)}) == 1
    assert rows["i0"]["timing"]["finish"] is None


class Limits(NoWatchdog):
    """Records the limits of what it guards."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def guard(self, seconds: float) -> AbstractContextManager[None]:
        self.seconds.append(seconds)
        return super().guard(seconds)


def test_every_stage_has_its_limit_and_a_batch_the_sum(tmp_path: Path) -> None:
    limits = StageTimeouts(prepare=2.0, generate=3.0)
    made = worker(tmp_path, 3, settings={"item_timeout_s": 5.0, "stage_timeout_s": limits})
    made.watchdog = guarded = Limits()
    ticks = iter(range(1000))
    made.clock = lambda: 0.1 * next(ticks)  # every look at the clock costs a tenth of a second
    run(made, 3)
    assert guarded.seconds[:3] == [2.0, 2.0, 2.0]
    assert guarded.seconds[3] == pytest.approx(9.0)
    assert all(0 < left < 5.0 for left in guarded.seconds[4:])  # what the other stages left
    assert len(guarded.seconds) == 7


class Web:
    """Fails a number of times per source."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def fetch(self, source: str, item_id: str | None = None) -> bytes:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return source.encode()


def from_web(tmp_path: Path, web: Web, **settings: Any) -> tuple[Worker, list[float]]:
    made = worker(tmp_path, {"id": ["i0"], "image": ["a.png"]}, settings=settings)
    pauses: list[float] = []
    made.fetcher, made.sleep, made.random = web, pauses.append, lambda: 0.5
    return made, pauses


def test_passing_faults_of_fetching_are_tried_again(tmp_path: Path) -> None:
    web = Web(Retryable("reset"), FetchTimeout("slow"), Retryable("503"))
    made, pauses = from_web(tmp_path, web)
    rows = run(made, 1)
    assert reasons(rows) == {}
    assert rows["i0"]["attempts"] == 1
    assert pauses == [pytest.approx(0.2), pytest.approx(0.4), pytest.approx(0.8)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Retryable("503"), "fetch_failed"), (FetchTimeout("slow"), "timed_out")],
)
def test_patience_with_a_source_ends(tmp_path: Path, error: Exception, reason: str) -> None:
    web = Web(*[error] * 9)
    made, _ = from_web(tmp_path, web)
    rows = run(made, 1)
    assert reasons(rows) == {"i0": reason}
    assert (rows["i0"]["stage"], web.calls) == ("fetch", 4)
    assert "4 times" in rows["i0"]["message"]


def test_a_source_is_not_tried_beyond_the_limit(tmp_path: Path) -> None:
    web = Web(*[Retryable("503")] * 9)
    limits = StageTimeouts(fetch=1.0)
    made, _ = from_web(tmp_path, web, stage_timeout_s=limits)
    time = [0.0]

    def fetch(source: str, item_id: str | None = None) -> bytes:
        time[0] += 0.6
        return Web.fetch(web, source, item_id)

    web.fetch = fetch  # type: ignore[method-assign]
    made.clock = lambda: time[0]
    assert reasons(run(made, 1)) == {"i0": "timed_out"}
    assert web.calls == 1


def test_a_bad_source_is_not_tried_again(tmp_path: Path) -> None:
    web = Web(BadItem("gone", reason=Reason.NOT_FOUND))
    made, pauses = from_web(tmp_path, web)
    assert reasons(run(made, 1)) == {"i0": "not_found"}
    assert (web.calls, pauses) == (1, [])


def test_memory_that_another_shard_took_is_waited_for(tmp_path: Path) -> None:
    made = worker(tmp_path)
    errors = [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
    whole = made.system.prepare

    def prepare(item: Item) -> Condition:
        if errors:
            raise errors.pop()
        return whole(item)

    made.system.prepare = prepare  # type: ignore[method-assign]
    assert list(reasons(run(made)).values()) == ["out_of_memory"]  # twice for the first item
    assert batches(made)[0] == ["i1", "i2", "i3"]


@contextmanager
def child(made: Worker) -> Iterator[None]:
    made.finish = ChildFinisher(512, function="tests.actors.finishers:finish")
    yield
    made.finish.close()


def test_a_deadly_finish_in_a_child_costs_one_row(tmp_path: Path) -> None:
    names = ["a", "segfault", "b", "hang", "memory", "bad", "c"]
    limits = StageTimeouts(finish=0.5)
    cells = {"id": names, "prompt": names}
    made = worker(tmp_path, cells, settings={"stage_timeout_s": limits})
    with child(made):
        rows = run(made, 7)
    assert reasons(rows) == {
        "segfault": "crashed",
        "hang": "timed_out",
        "memory": "out_of_memory",
        "bad": "empty_mesh",
    }
    assert {rows[name]["stage"] for name in reasons(rows)} == {"finish"}
    assert rows["hang"]["timing"]["finish"] >= 0.5
