"""Whole runs over a store that fails: a flaky network, a full disk, a full bucket folder."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geco_core.config.run import RunConfig, S3Config
from geco_core.errors import Fatal
from infra.storage import LocalStorage, open_storage
from tests.chaos.kills import ROOT, generate_line
from tests.chaos.materials import item_ids, write_manifest
from tests.chaos.verdict import expectations, judge
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.s3_servers import environment, moto_server, rclone_server
from workflows.generate import GenerateResult, generate
from workflows.verify import verify_uri

SERVERS = {"moto": moto_server, "rclone": rclone_server}
ROWS = 48
REMEDY = "free some space"
pytestmark = pytest.mark.chaos


def flaky() -> list[Fault]:
    """About a third of all requests break."""
    chances: dict[Any, float] = {
        "error_500": 0.06,
        "error_after": 0.06,
        "reset_before": 0.06,
        "reset_after": 0.06,
        "truncated": 0.06,
        "slow_body": 0.03,
        "slow_down": 0.01,
    }
    faults = [Fault(kind, probability=p, seconds=0.1) for kind, p in chances.items()]
    return [Fault("cut_upload", method="PUT", probability=0.05), *faults]


def made(folder: Path, out: str, **settings: Any) -> GenerateResult:
    manifest = folder / "manifest.parquet"
    if not manifest.exists():
        write_manifest(manifest, item_ids(ROWS))
    config = RunConfig(
        system="noop", manifest=str(manifest), out=out, engine="inline", shard_size=4,
        thumbnail_size=0, finish_isolation="inline", **settings,
    )  # fmt: skip
    return generate(config)


@pytest.mark.parametrize("name", ["moto", pytest.param("rclone", marks=pytest.mark.slow)])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_over_a_flaky_network_is_complete_and_right(
    name: str, seed: int, tmp_path: Path
) -> None:
    made(tmp_path, str(tmp_path / "reference"))
    expected = expectations(LocalStorage(tmp_path / "reference"))
    with SERVERS[name](tmp_path / name) as server, environment(server.env):
        uri = server.create_bucket("bucket") + "/run"
        with fault_proxy(server.port, flaky(), seed=seed) as proxy:
            through = S3Config(endpoint_url=proxy.endpoint_url, max_attempts=8)
            result = made(tmp_path, uri, s3=through)
            broken = sum(proxy.counts.values()) - proxy.counts["passed"]
            assert broken > 20, proxy.counts
            assert verify_uri(uri, through).complete
        assert result.complete
        assert result.state.counts == {"done": ROWS}
        damage = judge(open_storage(uri), expected)
        assert damage.total == damage.orphans == 0, damage.details
        verification = verify_uri(uri)
        assert verification.complete
        assert not verification.faults


def test_a_store_that_stays_away_ends_the_run_and_a_resume_completes_it(tmp_path: Path) -> None:
    with moto_server(tmp_path / "moto") as server, environment(server.env):
        uri = server.create_bucket("bucket") + "/run"
        with fault_proxy(server.port) as proxy:
            through = S3Config(endpoint_url=proxy.endpoint_url, max_attempts=1)
            key = "assets/part-000006"
            proxy.faults = [Fault("error_500", method="PUT", key=key)]
            line = generate_line(
                write_manifest(tmp_path / "manifest.parquet", item_ids(ROWS)), uri,
                "--system", "noop", "--engine", "inline", "shard_size=4", "thumbnail_size=0",
                "finish_isolation=inline", "s3.max_attempts=1",
            )  # fmt: skip
            env = {**os.environ, **proxy.env}
            ended = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, check=False)
            assert ended.returncode == 3, ended.stderr
            assert b"Traceback" not in ended.stderr
            assert b"InternalError" in ended.stderr
            assert b"remedy" in ended.stderr
            proxy.faults = []
            assert made(tmp_path, uri, s3=through).complete
        assert not verify_uri(uri).faults


@pytest.fixture(params=["tmpfs", "limit"])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    """A folder that soon refuses more bytes, and a block in which it does not."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if request.param == "limit":
        yield disk, contextlib.nullcontext
        return
    size = ["-o", "size=160k"]
    done = subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", str(disk)], check=False)
    if done.returncode:
        pytest.skip("no right to mount a small filesystem")
    try:
        yield disk, lambda: _larger(disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextlib.contextmanager
def _larger(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    yield


def test_a_full_disk_ends_the_run_and_a_resume_completes_it(
    full: tuple[Path, Callable[[], Any]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    disk, with_space = full
    made(tmp_path, str(tmp_path / "reference"))
    expected = expectations(LocalStorage(tmp_path / "reference"))
    out = disk / "run"
    limited = request.node.callspec.params["full"] == "limit"
    line = generate_line(
        tmp_path / "manifest.parquet", str(out), "--system", "noop", "--engine", "inline",
        "shard_size=4", "thumbnail_size=0", "finish_isolation=inline",
    )  # fmt: skip
    if limited:
        line = [sys.executable, "-c", _LIMITED, *line[1:]]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert b"no space left" in ended.stderr
    assert REMEDY.encode() in ended.stderr
    assert b"Traceback" not in ended.stderr
    store = LocalStorage(out)
    kept = judge(store, {})
    assert (kept.unreadable, kept.torn) == (0, 0), kept.details
    with with_space():
        result = made(tmp_path, str(out))
        assert result.complete
        damage = judge(store, expected)
        assert damage.total == damage.orphans == damage.torn == 0, damage.details
        assert not verify_uri(str(out)).faults


# Runs a module with a limit on the size of any file: writes beyond it fail with EFBIG.
_LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def test_no_space_is_fatal_and_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = LocalStorage(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(Fatal, match="no space left") as caught:
            store.put_atomic("a/b", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert REMEDY in caught.value.remedy
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert store.put_atomic("a/b", b"x" * 5000)
