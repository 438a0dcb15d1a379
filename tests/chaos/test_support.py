"""The S3 servers and the fault proxy do what the other tests of this folder rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.s3_servers import S3Server, boto_client, moto_server, rclone_server

SERVERS = {"moto": moto_server, "rclone": rclone_server}
BODY = bytes(range(256)) * 800  # 200 kB


@pytest.fixture(scope="module", params=list(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[S3Server]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as server:
        server.create_bucket("bucket")
        yield server


def put(client: Any, key: str = "a/b.bin", body: bytes = BODY, **more: Any) -> None:
    client.put_object(Bucket="bucket", Key=key, Body=body, **more)


def get(client: Any, key: str = "a/b.bin") -> bytes:
    return client.get_object(Bucket="bucket", Key=key)["Body"].read()


def stored(server: S3Server, key: str) -> bytes | None:
    try:
        return get(server.client(), key)
    except ClientError:
        return None


def test_a_server_stores_lists_and_deletes(server: S3Server) -> None:
    client = server.client()
    put(client, "x/1")
    put(client, "x/2", b"")
    listed = client.list_objects_v2(Bucket="bucket", Prefix="x/")["Contents"]
    assert sorted((o["Key"], o["Size"]) for o in listed) == [("x/1", len(BODY)), ("x/2", 0)]
    client.delete_object(Bucket="bucket", Key="x/1")
    assert stored(server, "x/1") is None
    assert stored(server, "x/2") == b""


def test_the_servers_differ_in_conditional_puts_as_declared(server: S3Server) -> None:
    client = server.client()
    key = f"once-{server.name}"
    put(client, key, b"first", IfNoneMatch="*")
    if server.conditional_put:
        with pytest.raises(ClientError, match="PreconditionFailed"):
            put(client, key, b"second", IfNoneMatch="*")
    else:
        put(client, key, b"second", IfNoneMatch="*")
    assert get(client, key) == (b"first" if server.conditional_put else b"second")


def test_rclone_checks_signatures_and_survives_its_death(tmp_path: Path) -> None:
    with rclone_server(tmp_path) as server:
        server.create_bucket("bucket")
        put(server.client())
        server.restart()
        assert get(server.client()) == BODY
        refused = server.env | {"AWS_SECRET_ACCESS_KEY": "wrong"}
        program = "import boto3; boto3.client('s3').list_objects_v2(Bucket='bucket')"
        line = [sys.executable, "-c", program]
        for env, fine in ((server.env, True), (refused, False)):
            ended = subprocess.run(line, env=os.environ | env, capture_output=True, check=False)
            assert (ended.returncode == 0) is fine, ended.stderr
            assert fine or b"SignatureDoesNotMatch" in ended.stderr


def test_a_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from tests.support.s3_servers import rclone_server\n"
        "with rclone_server(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    line = [sys.executable, "-c", program, str(tmp_path)]
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(line, cwd=root, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    server = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    server.wait(timeout=10)


@pytest.fixture
def proxy(server: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(server.port) as proxy:
        yield proxy


def single_try_client(proxy: FaultProxy) -> Any:
    import boto3
    from botocore.config import Config

    from tests.support.s3_servers import ACCESS_KEY, REGION, SECRET_KEY

    return boto3.client(
        "s3",
        endpoint_url=proxy.endpoint_url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(
            retries={"total_max_attempts": 1},
            read_timeout=1,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
            proxies={},
        ),
    )


def test_without_faults_the_proxy_changes_nothing(server: S3Server, proxy: FaultProxy) -> None:
    client = boto_client(proxy.endpoint_url)
    big = os.urandom(3 << 20)
    put(client, "plain", big)
    assert get(client, "plain") == stored(server, "plain") == big
    assert client.head_object(Bucket="bucket", Key="plain")["ContentLength"] == len(big)
    part = client.get_object(Bucket="bucket", Key="plain", Range="bytes=5-14")["Body"].read()
    assert part == big[5:15]
    client.delete_object(Bucket="bucket", Key="plain")
    with pytest.raises(ClientError, match="NoSuchKey"):
        get(client, "plain")
    assert set(proxy.counts) == {"passed"}
    assert len(proxy.requests) == 6


@pytest.mark.parametrize(
    ("kind", "happened"),
    [
        ("error_500", False),
        ("slow_down", False),
        ("error_after", True),
        ("reset_before", False),
        ("reset_after", True),
        ("stall", False),
        ("stall_after", True),
        ("cut_upload", False),
    ],
)
def test_a_broken_put_fails_and_has_happened_or_not(
    kind: Any, happened: bool, server: S3Server, proxy: FaultProxy
) -> None:
    key = f"put-{kind}"
    proxy.faults = [Fault(kind, method="PUT", key=key, times=1, seconds=1.5)]
    client = single_try_client(proxy)
    with pytest.raises((ClientError, BotoCoreError)):
        put(client, key)
    assert proxy.counts[kind] == 1
    deadline = time.monotonic() + 5
    while happened and stored(server, key) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    found = stored(server, key)
    assert found == (BODY if happened else None) or (kind == "cut_upload" and found != BODY)
    put(client, key)
    assert stored(server, key) == BODY


@pytest.mark.parametrize("kind", ["truncated", "reset_after", "error_500"])
def test_a_broken_get_fails(kind: Any, server: S3Server, proxy: FaultProxy) -> None:
    put(server.client())
    proxy.faults = [Fault(kind, method="GET", times=1)]
    client = single_try_client(proxy)
    with pytest.raises((ClientError, BotoCoreError)):
        get(client)
    assert get(client) == BODY


def test_a_slow_body_arrives_whole(server: S3Server, proxy: FaultProxy) -> None:
    put(server.client())
    proxy.faults = [Fault("slow_body", method="GET", seconds=0.5)]
    begun = time.monotonic()
    assert get(single_try_client(proxy)) == BODY
    assert time.monotonic() - begun >= 0.4


def test_faults_are_chosen_by_number_and_by_a_seeded_chance(proxy: FaultProxy) -> None:
    fault = Fault("error_500", method="PUT", key="^/x", nth={1, 3}, times=1)
    proxy.faults = [fault]
    struck = [proxy.choose("PUT", f"/x/{i}") is not None for i in range(5)]
    assert struck == [False, True, False, False, False]
    assert proxy.choose("GET", "/x") is None
    runs = []
    for _ in range(2):
        with fault_proxy(1, [Fault("slow_down", probability=0.3)], seed=7) as other:
            runs.append([other.choose("GET", "/") is not None for _ in range(200)])
    assert runs[0] == runs[1]
    assert 30 < sum(runs[0]) < 90
    with pytest.raises(ValueError, match="unknown fault"):
        Fault("nonsense")  # type: ignore[arg-type]


def test_a_dead_server_is_a_503(tmp_path: Path) -> None:
    with rclone_server(tmp_path) as server, fault_proxy(server.port) as proxy:
        server.create_bucket("bucket")
        server.kill()
        with pytest.raises(ClientError, match="SlowDown"):
            put(single_try_client(proxy))
        server.start()
        put(single_try_client(proxy))
        assert stored(server, "a/b.bin") == BODY
