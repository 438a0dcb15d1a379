"""A few of the strikes that `python -m tests.chaos.campaign` does, and its bookkeeping."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.commit import done_key, part_key
from infra.storage import LocalStorage
from tests.chaos.campaign import STORES, Plan, allotted, parse, run
from tests.chaos.kills import generate_line
from tests.chaos.materials import item_ids, write_manifest
from tests.chaos.result import Result
from tests.chaos.trials import KINDS, Trial
from tests.chaos.verdict import Damage, expectations, judge
from workflows.cli import main as geco


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("store", "strikes"),
    [("local", Counter(driver=1, replica=1)), ("moto", Counter(drain=1, child=1, replica=1))],
)
def test_strikes_do_no_damage(store: str, strikes: Counter[str], tmp_path: Path) -> None:
    plan = Plan({store: strikes}, seed=1, items=120, words=("model.generate_s=0.05",))
    result = run(plan, tmp_path)
    assert not result.damage.total, result.table()
    assert result.kills >= sum(strikes.values())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> LocalStorage:
    folder = tmp_path_factory.mktemp("finished")
    manifest = write_manifest(folder / "m.parquet", item_ids(12))
    line = generate_line(manifest, str(folder / "run"), "--system", "noop", "--engine", "inline")
    words = ("shard_size=4", "thumbnail_size=0", "finish_isolation=inline")
    assert geco([*line[3:], *words]) == 0
    return LocalStorage(folder / "run")


def copy_of(store: LocalStorage, folder: Path) -> LocalStorage:
    copy = LocalStorage(folder / "copy")
    for key in store.list(""):
        copy.put_atomic(key, store.get(key))
    return copy


def test_an_undisturbed_run_has_no_damage(finished: LocalStorage) -> None:
    expected = expectations(finished)
    assert len(expected) == 12
    assert asdict(judge(finished, expected)) == asdict(Damage())


def test_every_sort_of_damage_is_seen(finished: LocalStorage, tmp_path: Path) -> None:
    expected = expectations(finished)
    store = copy_of(finished, tmp_path)
    store.delete(part_key(0))  # lost: its four rows
    data = bytearray(store.get(part_key(1)))
    store.put_atomic(part_key(1), bytes(data[: len(data) // 2]))  # unreadable, four more lost
    store.put_atomic(done_key(2), b"{")
    (store.root / ".tmp-x").write_bytes(b"")
    store.put_atomic("stray", b"")
    damage = judge(store, expected)
    assert (damage.lost, damage.unreadable, damage.torn, damage.orphans) == (8, 2, 1, 1)


def edited_part(store: LocalStorage, change: Any) -> None:
    """Write part 1 again with other rows."""
    with store.open_for_pyarrow(part_key(1)) as file:
        table = pq.read_table(file)
    rows = change(table.to_pylist())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), sink)
    store.put_atomic(part_key(1), sink.getvalue())


def test_wrong_rows_are_seen(finished: LocalStorage, tmp_path: Path) -> None:
    expected = expectations(finished)
    for number, (change, name) in enumerate(
        [
            (lambda rows: [*rows, rows[0]], "duplicated"),
            (lambda rows: [{**rows[0], "glb_sha256": "0" * 64}, *rows[1:]], "unreadable"),
            (lambda rows: [{**rows[0], "glb": b"glTF"}, *rows[1:]], "unreadable"),
            (lambda rows: [_with_glb(rows[0], b"glTF nonsense"), *rows[1:]], "unreadable"),
            (lambda rows: [_with_glb(rows[0], rows[1]["glb"]), *rows[1:]], "different"),
            (lambda rows: [{**rows[0], "status": "failed"}, *rows[1:]], "unreadable"),
            (lambda rows: [_failed(rows[0]), *rows[1:]], "different"),
        ]
    ):
        store = copy_of(finished, tmp_path / str(number))
        edited_part(store, change)
        damage = judge(store, expected)
        assert getattr(damage, name) == damage.total == 1, (name, damage)


def _with_glb(row: dict[str, Any], glb: bytes) -> dict[str, Any]:
    return {**row, "glb": glb, "glb_sha256": hashlib.sha256(glb).hexdigest()}


def _failed(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "status": "failed", "reason": "crashed", "glb": None, "glb_sha256": None}


@pytest.mark.parametrize("rounds", [1, 7, 10, 100, 1000])
def test_rounds_are_allotted_exactly(rounds: int) -> None:
    strikes = allotted(rounds, STORES, KINDS)
    assert sum(sum(some.values()) for some in strikes.values()) == rounds
    assert strikes["local"]["server"] == strikes["moto"]["server"] == 0
    if rounds >= 100:
        assert all(strikes[s][k] for s in STORES for k in KINDS if k != "server")


def test_the_table_counts_a_folder_once_in_its_sum(capsys: pytest.CaptureFixture[str]) -> None:
    trial = Trial("local", "mixed", Counter(driver=2, replica=3), damage=Damage(lost=4))
    result = Result([trial, replace(trial, store="moto", damage=Damage(torn=1))])
    assert result.kills == 10
    assert result.damage.total == 4
    lines = result.table().splitlines()
    assert [line.split()[:4] for line in lines[1:6]] == [
        ["local", "driver", "2", "4"],
        ["local", "replica", "3", "4"],
        ["moto", "driver", "2", "0"],
        ["moto", "replica", "3", "0"],
        ["all", "all", "10", "4"],
    ]
    assert json.loads(json.dumps(result.to_json()))["kills"] == 10


def test_the_command_line_refuses_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--kinds", "driver,earthquake"])
    assert "earthquake" in capsys.readouterr().err
    plan, out, keep = parse(["--rounds", "5", "--system", "instantmesh", "--stores", "local"])
    assert not plan.faults
    assert (out, keep) == (None, None)
