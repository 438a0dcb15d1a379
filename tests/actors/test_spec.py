"""A worker built from plain data has what its settings ask for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.finishing import ChildFinisher
from actors.finishing_process import _NURSERIES, Kind
from actors.spec import WorkerSpec, build_worker, finishes_itself
from actors.worker import worker_settings
from geco_core.config.finish import FinishConfig
from geco_core.config.load import load
from geco_core.config.run import ColumnsConfig, RunConfig
from geco_core.errors import BadItem, Fatal, Reason
from geco_core.mesh.finish import finish_mesh
from infra.locate import locate
from infra.manifest import read_manifest
from infra.storage import LocalStorage

PLAIN = Kind("geco_core.mesh.finish:finish_mesh", thumbnails=False)


def spec(tmp_path: Path, *words: str, overrides: tuple[str, ...] = ()) -> WorkerSpec:
    pq.write_table(pa.table({"id": ["a"], "image": ["a.png"]}), tmp_path / "m.parquet")
    store = LocalStorage(tmp_path / "run")
    config = load(RunConfig, {"thumbnail_size": 0}, words)
    manifest = read_manifest(locate(str(tmp_path / "m.parquet")), ColumnsConfig(), store)
    values: dict[str, Any] = {"system": "noop", "preset": "micro", "code_version": "1"}
    return WorkerSpec(
        run_uri=store.uri,
        manifest=manifest,
        overrides=overrides,
        settings=worker_settings(config),
        **values,
    )


def test_where_meshes_are_finished(tmp_path: Path) -> None:
    inline = build_worker(spec(tmp_path, "finish_isolation=inline", "finish.face_budget=9")).finish
    assert isinstance(inline, partial)
    assert inline.func is finish_mesh
    assert inline.keywords == {"settings": FinishConfig(face_budget=9)}
    assert isinstance(build_worker(spec(tmp_path)).finish, ChildFinisher)
    assert PLAIN in _NURSERIES  # it gets ready while the first items are made


def test_a_system_that_finishes_itself_needs_no_child(tmp_path: Path) -> None:
    assert finishes_itself(spec(tmp_path, overrides=("output=asset",)))
    assert not finishes_itself(spec(tmp_path))


def test_sources_are_read_below_the_manifest_only(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (folder / "a.png").write_bytes(b"image")
    fetcher = build_worker(spec(folder, "finish_isolation=inline")).fetcher
    assert fetcher.fetch(str(folder / "a.png")) == b"image"
    with pytest.raises(BadItem) as caught:
        fetcher.fetch(str(tmp_path / "secret.png"))
    assert caught.value.reason is Reason.URI_REFUSED


def test_another_system_than_the_run_started_with_is_refused(tmp_path: Path) -> None:
    build_worker(spec(tmp_path, "finish_isolation=inline"))
    with pytest.raises(Fatal, match="not the one this run started with"):
        build_worker(spec(tmp_path, "finish_isolation=inline", overrides=("generate_s=1",)))
