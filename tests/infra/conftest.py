"""S3 servers on loopback, and stores in fresh buckets of theirs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from geco_core.config.run import S3Config
from infra.storage.s3 import S3Storage
from tests.support.s3_servers import S3Server, environment, moto_server, rclone_server

_numbers = itertools.count()
QUICK = S3Config(max_attempts=3, connect_timeout_s=5, read_timeout_s=30)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> S3Server:
    return request.getfixturevalue(request.param)


def fresh_store(server: S3Server, folder: str = "run") -> S3Storage:
    uri = server.create_bucket(f"bucket-{next(_numbers)}")
    return S3Storage(f"{uri}/{folder}", QUICK, conditional_put=server.conditional_put)


@pytest.fixture
def make_store() -> Callable[[S3Server], S3Storage]:
    return fresh_store


@pytest.fixture
def store(server: S3Server) -> Iterator[S3Storage]:
    """A store on each of the two servers."""
    with environment(server.env):
        yield fresh_store(server)


@pytest.fixture
def moto_store(moto: S3Server) -> Iterator[S3Storage]:
    with environment(moto.env):
        yield fresh_store(moto)


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    """20 MiB: above the limit of a single PUT."""
    path = tmp_path / "big"
    block = bytes(range(256)) * 4096
    path.write_bytes(b"".join(bytes([k]) + block[1:] for k in range(20)))
    return path
