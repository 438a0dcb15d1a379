"""Where targets are kept: what is asked for, what the run started with, the run itself."""

from __future__ import annotations

from pathlib import Path

from geco_core.config.run import S3Config
from infra.storage import LocalStorage
from infra.targets.place import store_address

S3 = S3Config()


def test_the_run_keeps_its_own_unless_told_otherwise(tmp_path: Path) -> None:
    run = LocalStorage(tmp_path / "run")
    own = store_address(run, None, "", S3, "t")
    assert own.uri == run.uri
    assert own.open(S3).uri == run.uri
    assert store_address(run, {"storage": {}}, str(tmp_path / "run"), S3, "t").uri == run.uri


def test_what_the_run_started_with_is_remembered(tmp_path: Path) -> None:
    run, shared = LocalStorage(tmp_path / "run"), str(tmp_path / "shared")
    record = {"storage": {"server": "local", "targets": shared}}
    assert store_address(run, record, "", S3, "t").uri == shared
    other = str(tmp_path / "other")
    assert store_address(run, record, other, S3, "t").uri == other
