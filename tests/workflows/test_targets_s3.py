"""Targets in buckets: run and shared store, with and without conditional puts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from actors.targets import FOUND
from geco_core.config.distill import DistillConfig, TargetsConfig, TeacherConfig
from infra.storage import open_storage
from infra.targets import TargetTable
from tests.support.s3_servers import S3Server, environment, moto_server, rclone_server
from tests.support.tiny_teacher import pictures, tiny_model
from workflows.run_access import open_existing_run
from workflows.targets import targets
from workflows.verify import verify_uri

SERVERS = {"moto": moto_server, "rclone": rclone_server}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
WORDS = ("engine=inline", "finish_isolation=inline", "thumbnail_size=0")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[S3Server]:
    with SERVERS[request.param](tmp_path / "server") as running, environment(running.env):
        yield running


def test_two_runs_share_a_store_in_a_bucket(server: S3Server, tmp_path: Path) -> None:
    bucket, photos = server.create_bucket("targets"), pictures(tmp_path / "in", 3)
    config = DistillConfig(
        teacher=TeacherConfig(model=tiny_model(tmp_path / "weights")),
        targets=TargetsConfig(renders=2, render_size=16, shard_size=2, store=f"{bucket}/shared"),
    )
    for name in ("a", "b"):
        assert targets(config, str(photos), f"{bucket}/{name}", words=WORDS).complete
        assert verify_uri(f"{bucket}/{name}").sound
    shared = open_storage(f"{bucket}/shared")
    assert len([*shared.list("objects")]) == 3
    assert not [*shared.list(".probe")]
    first, second = TargetTable.open(f"{bucket}/a"), TargetTable.open(f"{bucket}/b")
    assert first.item_ids == second.item_ids == ("p000.png", "p001.png", "p002.png")
    for ours, theirs in zip(first.read(range(3)), second.read(range(3)), strict=True):
        assert ours.key == theirs.key
        assert ours.renders.tobytes() == theirs.renders.tobytes()
    run = open_existing_run(f"{bucket}/b")
    assert run.record["storage"]["targets"] == f"{bucket}/shared"
    with run.storage.open_for_pyarrow("assets/part-000001.parquet") as file:
        assert pq.read_table(file).column("notes").to_pylist() == [[FOUND]]
