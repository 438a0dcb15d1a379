"""Shards are a function of manifest and size; `run.json` pins both and refuses anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.config.run import RunConfig
from geco_core.errors import ConfigError, Fatal, ManifestError
from infra.plan import Plan, SystemDescription, make_plan, open_run, plan_of, read_run
from infra.storage import LocalStorage

SYSTEM = SystemDescription({"system": "noop", "steps": 4}, {}, ("MIT",))


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    ids = [f"i{k}" for k in range(10)] + ["i3"]
    pq.write_table(pa.table({"id": ids, "prompt": ids}), tmp_path / "m.parquet")
    return RunConfig(system="noop", manifest=str(tmp_path / "m.parquet"), shard_size=4)


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "run")


def opened(store: LocalStorage, config: RunConfig, system: SystemDescription = SYSTEM) -> Plan:
    plan = make_plan(store, config)
    open_run(store, config, plan, system, {"python": "3"}, "2026-01-01T00:00:00+00:00")
    return plan


def changed(config: RunConfig, **values: Any) -> RunConfig:
    from dataclasses import replace

    return replace(config, **values)


def test_shards_cover_every_row_once(store: LocalStorage, config: RunConfig) -> None:
    plan = make_plan(store, config)
    shards = [plan.shard(k) for k in range(plan.shards)]
    assert [(s.index, s.start, s.stop) for s in shards] == [(0, 0, 4), (1, 4, 8), (2, 8, 11)]
    assert plan.duplicates == 1
    with pytest.raises(IndexError):
        plan.shard(3)


def test_opening_again_resumes_and_keeps_the_record(store: LocalStorage, config: RunConfig) -> None:
    plan = opened(store, config)
    before = store.get("run.json")
    faster = changed(config, workers=3, batch_size=2, item_timeout_s=5.0)
    assert opened(store, faster) == plan
    assert store.get("run.json") == before
    record = read_run(store)
    assert record is not None
    assert plan_of(record) == plan
    assert record["system"]["licences"] == ["MIT"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"seed": 1}, "config.seed: 0 -> 1"),
        ({"shard_size": 5}, "config.shard_size: 4 -> 5"),
        ({"model": {"generate_s": 1}}, "config.model.generate_s: None -> 1"),
    ],
)
def test_another_configuration_is_refused_with_the_difference(
    store: LocalStorage, config: RunConfig, values: dict[str, Any], line: str
) -> None:
    opened(store, config)
    with pytest.raises(ConfigError) as caught:
        opened(store, changed(config, **values))
    assert line in caught.value.message


def test_another_system_configuration_is_refused(store: LocalStorage, config: RunConfig) -> None:
    opened(store, config)
    other = SystemDescription({"system": "noop", "steps": 8}, {}, ("MIT",))
    with pytest.raises(ConfigError, match=r"system\.config\.steps: 4 -> 8"):
        opened(store, config, other)


def test_another_manifest_is_refused(
    store: LocalStorage, config: RunConfig, tmp_path: Path
) -> None:
    opened(store, config)
    pq.write_table(pa.table({"id": ["z"], "prompt": ["z"]}), tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match="belongs to another manifest"):
        opened(store, changed(config, manifest=str(tmp_path / "other.parquet")))


def test_a_moved_manifest_is_still_the_same(
    store: LocalStorage, config: RunConfig, tmp_path: Path
) -> None:
    opened(store, config)
    moved = tmp_path / "moved.parquet"
    moved.write_bytes(Path(config.manifest).read_bytes())
    assert opened(store, changed(config, manifest=str(moved))).rows == 11


def test_foreign_run_json_is_refused(store: LocalStorage, config: RunConfig) -> None:
    store.put_atomic("run.json", b"hello")
    with pytest.raises(Fatal, match="not JSON"):
        make_plan(store, config)
    store.put_atomic("run.json", json.dumps({"schema_version": 99}).encode())
    with pytest.raises(Fatal, match="another version"):
        make_plan(store, config)


def test_duplicates_are_found_once_and_kept(
    store: LocalStorage, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_plan(store, config).duplicates == 1

    def never(*_: object) -> None:
        raise AssertionError("searched twice")

    monkeypatch.setattr("infra.plan.find_duplicates", never)
    assert make_plan(store, config).duplicates == 1


def test_a_run_inside_its_own_manifest_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    inside = RunConfig(system="noop", manifest=str(tmp_path / "in"))
    with pytest.raises(ManifestError, match="lies inside the manifest folder"):
        make_plan(LocalStorage(tmp_path / "in" / "run"), inside)
    assert make_plan(LocalStorage(tmp_path / "run"), inside).rows == 1
