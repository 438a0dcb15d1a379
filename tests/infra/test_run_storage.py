"""What is known about a store is found out once, recorded, and only believed on the same server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from geco_core.config.run import RunConfig, S3Config
from infra.commit import RUN_KEY
from infra.plan import SystemDescription, make_plan, open_run
from infra.run_storage import as_recorded, open_run_storage, storage_record
from infra.storage import LocalStorage
from infra.storage.s3 import S3Storage
from tests.support.s3_servers import S3Server


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """A `run.json` that says nothing about its store."""
    (tmp_path / "m.csv").write_text("prompt\nx\n")
    scratch = LocalStorage(tmp_path / "scratch")
    config = RunConfig(system="noop", manifest=str(tmp_path / "m.csv"))
    plan = make_plan(scratch, config)
    return open_run(scratch, config, plan, SystemDescription({}, {}, ()), {}, "2026-01-01")


def never(*_: object) -> bool:
    raise AssertionError("probed again")


def test_a_new_run_is_probed_and_a_resume_is_not(
    store: S3Storage,
    server: S3Server,
    record: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = open_run_storage(store.uri, store.config, "token")
    assert first.conditional_put is server.conditional_put
    found = storage_record(first, store.config)
    assert found == {
        "server": server.endpoint_url.removeprefix("http://"),
        "conditional_put": server.conditional_put,
    }
    run = record | {"storage": found}
    store.put_atomic(RUN_KEY, json.dumps(run).encode())
    monkeypatch.setattr("infra.storage.probe.probe_conditional_put", never)
    again = open_run_storage(store.uri, store.config, "token")
    assert again.conditional_put is server.conditional_put
    assert as_recorded(store, run, store.config).conditional_put is server.conditional_put


def test_a_record_of_another_server_is_not_believed(
    store: S3Storage, server: S3Server, record: dict[str, Any]
) -> None:
    for known in ({"server": "local", "conditional_put": True}, {}, "nonsense"):
        run = record | {"storage": known}
        store.put_atomic(RUN_KEY, json.dumps(run).encode())
        found = open_run_storage(store.uri, store.config, "token")
        assert found.conditional_put is server.conditional_put
        assert not as_recorded(store, run, store.config).conditional_put


def test_a_local_run_needs_nothing(tmp_path: Path) -> None:
    store = open_run_storage(str(tmp_path / "run"), S3Config(), "token")
    assert isinstance(store, LocalStorage)
    assert storage_record(store) == {"server": "local", "conditional_put": True}
    assert as_recorded(store, {}) is store
    assert not store.root.exists()
