"""The judge of the poison benchmark finds every kind of wrong row; rates are rows over seconds."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.poison import compare, judge, parse, rates, settings
from geco_core.config.load import load
from geco_core.errors import Reason
from geco_core.systems.noop import NoopConfig
from geco_core.types import Asset, Outcome, Shard, Status
from infra.commit import attempts_key, commit_shard
from infra.dataset import RowContext, ShardSummary, rows_to_table, summarise
from infra.storage import LocalStorage

CONFIG = NoopConfig(faults={"i1": "segfault", "i4": "empty", "i7": "hang"})


def done(name: str, attempts: int = 1) -> Outcome:
    return Outcome(name, Status.DONE, 0, asset=Asset(b"g", "d", b"", {}), attempts=attempts)


def failed(name: str, reason: Reason, stage: str = "generate") -> Outcome:
    return Outcome(name, Status.FAILED, 0, reason, "", stage)


def write(store: LocalStorage, shard: int, outcomes: list[Outcome]) -> None:
    start, rows = 3 * shard, len(outcomes)
    table = rows_to_table(
        outcomes, [""] * rows, RowContext("noop", "micro", {}), pa.table({"x": [0] * rows})
    )
    summary = summarise(outcomes, Shard(shard, start, start + rows), 2.0, {"generate": 0.5})
    commit_shard(store, table, summary)


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def test_every_row_under_its_own_reason_is_right(store: LocalStorage) -> None:
    write(store, 0, [done("i0"), failed("i1", Reason.CRASHED), done("i2", 3)])
    write(store, 1, [done("i3"), failed("i4", Reason.EMPTY_MESH, "finish"), done("i5")])
    write(store, 2, [done("i6"), failed("i7", Reason.TIMED_OUT), done("i8")])
    write(store, 3, [done("i9"), done("i10"), done("i11")])
    store.put_atomic(attempts_key(0), b"{}")
    verdict = judge(store, CONFIG)
    assert verdict.wrong == []
    assert (verdict.items, verdict.repeated_rows) == (12, 1)
    assert verdict.reasons == {"crashed": 1, "empty_mesh": 1, "timed_out": 1}
    assert verdict.undisturbed == {3}


def test_wrong_rows_are_named(store: LocalStorage) -> None:
    write(store, 0, [failed("i0", Reason.CRASHED), done("i1"), done("i2")])
    write(store, 1, [done("i2"), failed("i4", Reason.CRASHED), done("i5")])
    verdict = judge(store, CONFIG)
    assert sorted(verdict.wrong) == [
        "i0: expected done, found crashed",
        "i1: expected crashed, found done",
        "i2: 2 rows",
        "i4: expected empty_mesh, found crashed",
    ]


def test_repeated_batches_and_attempts_disturb(store: LocalStorage) -> None:
    write(store, 0, [done("i0", 2)])
    write(store, 1, [done("i3")])
    store.put_atomic(attempts_key(1), b"{}")
    assert judge(store, CONFIG).undisturbed == set()


def test_rates_are_rows_over_seconds() -> None:
    seconds = {"prepare": 0.5, "generate": 1.5, "extract": 9.0, "commit": 9.0, "wall": 4.0}
    summaries = [ShardSummary(k, 0, 8, {"done": 8}, seconds=seconds) for k in range(2)]
    assert rates(summaries) == {"rows": 16, "rows_per_busy_s": 4.0, "rows_per_wall_s": 2.0}
    assert rates([]) == {"rows": 0, "rows_per_busy_s": 0.0, "rows_per_wall_s": 0.0}


@pytest.mark.parametrize(
    ("busy", "wrong", "wall_s", "passed"),
    [
        (9.5, 0, 100.0, True),
        (8.5, 0, 100.0, False),
        (9.5, 1, 100.0, False),
        (9.5, 0, 1300.0, False),
    ],
)
def test_a_run_passes_when_right_fast_and_in_time(
    busy: float, wrong: int, wall_s: float, passed: bool
) -> None:
    rate = {"rows_per_busy_s": 10.0, "rows_per_wall_s": 5.0}
    clean = {"all_shards": rate, "wall_s": 20.0, "wrong": 0}
    slower = {"rows_per_busy_s": busy, "rows_per_wall_s": 4.0}
    poison = {"undisturbed": slower, "wall_s": wall_s, "wrong": wrong, "deaths": 40}
    result = compare(clean, poison)
    assert result["passed"] is passed
    assert result["ratio_wall"] == 0.8
    assert result["seconds_per_death"] == (wall_s - 20.0) / 40


def test_both_runs_differ_in_the_poison_only() -> None:
    options = parse(["--permille", "5"])
    clean, poison = settings(options, poison=False), settings(options, poison=True)
    assert poison[: len(clean)] == clean
    model = [word.removeprefix("model.") for word in poison if word.startswith("model.")]
    assert sum(load(NoopConfig, None, model).poison.values()) == 50
