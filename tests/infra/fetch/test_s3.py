"""Objects of a store, and every way it says no."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from geco_core.config.run import FetchConfig, S3Config
from geco_core.errors import BadItem, Reason, Retryable
from infra.fetch.problems import FetchTimeout
from infra.fetch.s3 import S3Source
from tests.corpus.web import serving

LIMIT = 100


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Endpoint of a store with `pictures/a b?.png`."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket="pictures")
        for key, size in (("a b?.png", 5), ("folder/x", 3), ("large", LIMIT + 1), ("empty", 0)):
            client.put_object(Bucket="pictures", Key=key, Body=b"x" * size)
        yield endpoint
    server.stop()


def source(endpoint: str, *roots: str, attempts: int = 1) -> S3Source:
    config = S3Config(endpoint_url=endpoint, max_attempts=attempts, connect_timeout_s=2.0)
    return S3Source(config, FetchConfig(), roots, LIMIT)


def test_objects_are_read(store: str) -> None:
    assert source(store).fetch("s3://pictures/a b?.png", None) == b"xxxxx"
    assert source(store).fetch("s3://pictures/empty", None) == b""


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://pictures/none", Reason.NOT_FOUND),
        ("s3://none-such/x", Reason.NOT_FOUND),
        ("s3://pictures/large", Reason.TOO_MANY_BYTES),
        ("s3://NOT_A_BUCKET!/x", Reason.UNSUPPORTED_INPUT),
        ("s3://pictures/", Reason.UNSUPPORTED_INPUT),
    ],
)
def test_wrong_objects(store: str, uri: str, reason: Reason) -> None:
    with pytest.raises(BadItem) as caught:
        source(store).fetch(uri, "i1")
    assert caught.value.reason is reason
    assert caught.value.remedy


def test_declared_prefixes_confine(store: str) -> None:
    confined = source(store, "s3://pictures/folder", "/data")
    assert confined.fetch("s3://pictures/folder/x", None) == b"xxx"
    for uri in (
        "s3://pictures/empty",
        "s3://pictures/folder-two/x",
        "s3://other/folder/x",
        "s3://pictures/folder/../empty",
    ):
        with pytest.raises(BadItem) as caught:
            confined.fetch(uri, None)
        assert caught.value.reason is Reason.URI_REFUSED


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (403, BadItem, Reason.ACCESS_DENIED),
        (404, BadItem, Reason.NOT_FOUND),
        (400, BadItem, Reason.FETCH_FAILED),
        (500, Retryable, None),
        (503, Retryable, None),
    ],
)
def test_refusals_of_the_store(
    store: str, status: int, kind: type[Exception], reason: Reason | None
) -> None:
    with serving() as server, pytest.raises(kind) as caught:
        source(server.url("")).fetch(f"s3://status/{status}", "i1")
    assert getattr(caught.value, "reason", None) is reason


def test_a_wrong_endpoint_may_pass(store: str) -> None:
    with serving() as server:
        url = server.url("")
    with pytest.raises(Retryable, match="does not answer"):
        source(url).fetch("s3://pictures/x", None)


def test_bodies_that_break_off_may_pass(store: str) -> None:
    with serving() as server, pytest.raises(Retryable):
        S3Source(
            S3Config(endpoint_url=server.url(""), max_attempts=1), FetchConfig(), (), 10_000
        ).fetch("s3://short/x", None)


def test_slow_bodies_are_limited(store: str) -> None:
    ticks = iter(range(0, 1000, 40))
    slow = S3Source(
        S3Config(endpoint_url=store), FetchConfig(), (), LIMIT, clock=lambda: float(next(ticks))
    )
    with pytest.raises(FetchTimeout):
        slow.fetch("s3://pictures/folder/x", None)


def test_missing_credentials_are_named(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/none")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(BadItem, match="NoCredentials") as caught:
        source(store, attempts=2).fetch("s3://pictures/x", None)
    assert caught.value.reason is Reason.ACCESS_DENIED
    assert "credentials" in caught.value.remedy
