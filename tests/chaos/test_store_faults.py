"""Our S3 store behind a network that breaks in every way: right bytes, or a typed error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geco_core.config.run import S3Config
from geco_core.errors import Fatal, Retryable
from infra.storage import Storage, open_storage
from infra.storage.probe import probe_conditional_put
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.s3_servers import S3Server, environment, moto_server, rclone_server

SERVERS = {"moto": moto_server, "rclone": rclone_server}
BODY = bytes(range(256)) * 40
# The client waits seconds after a SlowDown, and stalls take their time: two of each are enough.
SLOW = {kind: pytest.param(kind, marks=pytest.mark.slow) for kind in ("slow_down", "stall")}
BEFORE = ("error_500", SLOW["slow_down"], "reset_before", SLOW["stall"])
AFTER = ("error_after", "reset_after", pytest.param("stall_after", marks=pytest.mark.slow))
ANSWER = ("slow_body", "truncated")
STALL_S = 0.7
PATIENCE_S = 25.0  # of verbs whose requests never succeed
pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module", params=["moto", pytest.param("rclone", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[S3Server]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as server:
        server.create_bucket("bucket")
        with environment(server.env):
            yield server


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(server.port, seed=3) as proxy:
        yield proxy


def behind(proxy: FaultProxy, server: S3Server, attempts: int = 2) -> Storage:
    """Our store, through the proxy, in little time."""
    config = S3Config(endpoint_url=proxy.endpoint_url, max_attempts=attempts, read_timeout_s=0.5)
    return open_storage("s3://bucket/run", config, conditional_put=server.conditional_put)


def direct(server: S3Server) -> Storage:
    """Our store without the proxy."""
    return open_storage("s3://bucket/run", S3Config(endpoint_url=server.endpoint_url))


def read_arrow(store: Storage, key: str) -> bytes:
    with store.open_for_pyarrow(key) as file:
        file.seek(100)
        tail = file.read()
        file.seek(0)
        return bytes(file.read(100)) + bytes(tail)


def typed(action: Callable[[], Any]) -> Any:
    """The result; the class of the error when it is one of ours. Other errors fail the test."""
    try:
        return action()
    except (Retryable, Fatal) as error:
        return type(error)


@pytest.mark.parametrize("kind", [*BEFORE, *AFTER, "cut_upload"])
def test_one_broken_write_is_no_damage(kind: Any, server: S3Server, proxy: FaultProxy) -> None:
    store, plain = behind(proxy, server), direct(server)
    for once in (False, True):
        key = f"put/{kind}-{once}"
        proxy.faults = [Fault(kind, method="PUT", key=key, times=1, seconds=STALL_S)]
        found = typed(lambda key=key, once=once: store.put_atomic(key, BODY, only_if_absent=once))
        assert proxy.counts[kind]
        if found is Retryable:  # patience ended: the next call makes it good
            found = store.put_atomic(key, BODY, only_if_absent=once)
        # "there is one already" may be the answer about our own object
        assert found is True or (once and found is False)
        assert plain.get(key) == BODY
        proxy.counts.clear()
    assert sorted(plain.list("put")).count(f"put/{kind}-True") == 1


@pytest.mark.parametrize("kind", [*BEFORE, *AFTER])
def test_one_broken_question_still_has_the_right_answer(
    kind: Any, server: S3Server, proxy: FaultProxy
) -> None:
    store, plain = behind(proxy, server), direct(server)
    folder = f"ask-{kind}"
    for name in ("a", "b"):
        plain.put_atomic(f"{folder}/{name}", BODY)
    verbs: dict[str, tuple[Callable[[], Any], Any]] = {
        "GET": (lambda: store.get(f"{folder}/a"), BODY),
        "HEAD": (lambda: store.exists(f"{folder}/a"), True),
        "GET list": (lambda: sorted(store.list(folder)), [f"{folder}/a", f"{folder}/b"]),
        "GET arrow": (lambda: read_arrow(store, f"{folder}/a"), BODY),
        "DELETE": (lambda: store.delete(f"{folder}/b"), None),
    }
    for name, (ask, answer) in verbs.items():
        proxy.faults = [Fault(kind, method=name.split()[0], key=folder, times=1, seconds=STALL_S)]
        found = typed(ask)
        if found is Retryable:
            found = ask()
        assert found == answer, name
        assert proxy.counts[kind], name
        proxy.counts.clear()
    assert list(plain.list(folder)) == [f"{folder}/a"]


@pytest.mark.parametrize("kind", ANSWER)
def test_a_broken_answer_is_read_again_or_refused(
    kind: Any, server: S3Server, proxy: FaultProxy
) -> None:
    store, plain = behind(proxy, server), direct(server)
    plain.put_atomic(f"answer-{kind}/a", BODY)
    for times in (1, 100):
        for ask, answer in (
            (lambda: store.get(f"answer-{kind}/a"), BODY),
            (lambda: read_arrow(store, f"answer-{kind}/a"), BODY),
            (lambda: list(store.list(f"answer-{kind}")), [f"answer-{kind}/a"]),
        ):
            proxy.faults = [Fault(kind, key=f"answer-{kind}", times=times, seconds=0.3)]
            assert typed(ask) in (answer, Retryable)
            proxy.faults = []
            assert ask() == answer


@pytest.mark.parametrize("kind", ["error_500", SLOW["slow_down"], "reset_before", "truncated"])
def test_a_store_that_stays_broken_is_retryable_in_bounded_time(
    kind: Any, server: S3Server, proxy: FaultProxy
) -> None:
    store, plain = behind(proxy, server), direct(server)
    plain.put_atomic("there/a", BODY)
    proxy.faults = [Fault(kind, seconds=STALL_S)]
    begun = time.monotonic()
    verbs: list[Callable[[], Any]] = [
        lambda: store.get("there/a"),
        lambda: read_arrow(store, "there/a"),
        lambda: list(store.list("there")),
    ]
    if kind != "truncated":
        verbs += [lambda: store.put_atomic("there/b", BODY), lambda: store.exists("there/a")]
        verbs += [lambda: store.delete("there/a")]
    assert [typed(verb) for verb in verbs] == [Retryable] * len(verbs)
    assert time.monotonic() - begun < PATIENCE_S
    assert list(plain.list("there")) == ["there/a"]


def test_a_lost_answer_of_a_first_write_does_not_let_a_second_writer_in(
    server: S3Server, proxy: FaultProxy
) -> None:
    store, plain = behind(proxy, server), direct(server)
    proxy.faults = [Fault("reset_after", method="PUT", key="first", times=2)]
    assert typed(lambda: store.put_atomic("first", b"one", only_if_absent=True)) in (
        False,
        Retryable,
    )
    assert not store.put_atomic("first", b"two", only_if_absent=True)
    assert plain.get("first") == b"one"


@pytest.mark.parametrize(
    ("kind", "method", "key"),
    [
        ("slow_down", "PUT", "partNumber=2"),
        ("reset_after", "PUT", "partNumber=1"),
        ("cut_upload", "PUT", "partNumber=2"),
        ("error_500", "POST", "uploads"),
        ("error_after", "POST", "uploadId"),
        ("reset_after", "POST", "uploadId"),
        ("error_in_200", "POST", "uploadId"),
    ],
)
def test_a_broken_multipart_upload_is_whole_or_absent(
    kind: Any, method: str, key: str, server: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    store, plain = behind(proxy, server), direct(server)
    name = f"big/{kind}-{method}-{key.partition('=')[0]}"
    big = os.urandom(17 << 20)
    path = tmp_path / "big.bin"
    path.write_bytes(big)
    proxy.faults = [Fault(kind, method=method, key=f"{name}.*{key}", times=1)]
    found = typed(lambda: store.put_atomic(name, path, only_if_absent=True))
    assert proxy.counts[kind] == 1
    assert found in (True, False, Retryable)
    if not plain.exists(name):
        assert found is Retryable
        assert store.put_atomic(name, path, only_if_absent=True)
    assert plain.get(name) == big
    assert plain.sweep_temporary(time.time() + 3600) <= 2
    assert plain.sweep_temporary(time.time() + 3600) == 0
    assert plain.get(name) == big
    plain.delete(name)


@pytest.mark.parametrize("kind", [SLOW["slow_down"], "reset_after", "error_after"])
def test_the_probe_is_right_in_spite_of_a_fault(
    kind: Any, server: S3Server, proxy: FaultProxy
) -> None:
    store = behind(proxy, server)
    for nth in range(2):
        proxy.faults = [Fault(kind, method="PUT", key="probe", nth={nth})]
        found = typed(lambda nth=nth: probe_conditional_put(store, f"{kind}-{nth}"))
        assert found in (server.conditional_put, Retryable)
    assert not list(direct(server).list(".probe"))


def test_wrong_credentials_are_fatal_and_never_shown(tmp_path: Path) -> None:
    with rclone_server(tmp_path) as server:
        server.create_bucket("bucket")
        wrong = server.env | {"AWS_SECRET_ACCESS_KEY": "wrong-and-very-secret-000000000000000"}
        with environment(wrong):
            store = direct(server)
            for verb in (
                lambda: store.put_atomic("a", b"x"),
                lambda: store.get("a"),
                lambda: list(store.list("")),
                lambda: store.open_for_pyarrow("a"),
            ):
                with pytest.raises(Fatal) as caught:
                    verb()
                assert "AWS_" in caught.value.remedy
                assert "very-secret" not in str(caught.value)
                assert "Signature=" not in str(caught.value)


def test_a_missing_bucket_is_fatal(server: S3Server) -> None:
    store = open_storage("s3://no-such-bucket/run", S3Config(endpoint_url=server.endpoint_url))
    with pytest.raises(Fatal, match="NoSuchBucket") as caught:
        store.put_atomic("a", b"x")
    assert "bucket" in caught.value.remedy


def test_a_server_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    with rclone_server(tmp_path) as server, environment(server.env):
        server.create_bucket("bucket")
        store = direct(server)
        store.put_atomic("a", BODY)
        server.kill()
        with pytest.raises(Retryable):
            open_storage(
                "s3://bucket/run", S3Config(endpoint_url=server.endpoint_url, max_attempts=1)
            ).get("a")
        server.start()
        assert store.get("a") == BODY
