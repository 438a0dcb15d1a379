"""The store's promises over two real S3 servers, and over a proxy that breaks requests."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.errors import ConfigError, Fatal, Retryable
from infra.storage import LocalStorage, Storage, open_input, open_storage
from infra.storage.client import s3_client
from infra.storage.s3 import S3Storage
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.s3_servers import S3Server, environment


@contextmanager
def behind_proxy(server: S3Server, faults: Sequence[Fault]) -> Iterator[FaultProxy]:
    with fault_proxy(server.port, faults) as proxy, environment(proxy.env):
        yield proxy


def uploads(store: S3Storage) -> int:
    """Multipart uploads that are neither completed nor aborted."""
    answer = s3_client(store.config).list_multipart_uploads(Bucket=store.bucket)
    return len(answer.get("Uploads", ()))


def test_both_stores_keep_the_protocol(store: S3Storage, tmp_path: Path) -> None:
    assert isinstance(store, Storage)
    assert isinstance(LocalStorage(tmp_path), Storage)


def test_put_then_get_list_delete(store: S3Storage) -> None:
    assert list(store.list("")) == []
    assert store.put_atomic("a/b.bin", memoryview(b"0123456789"))
    assert store.get("a/b.bin") == b"0123456789"
    assert list(store.list("a")) == ["a/b.bin"] == list(store.list("a/"))
    assert list(store.list("")) == ["a/b.bin"]
    assert store.exists("a/b.bin")
    assert not store.exists("a")
    with store.open_for_pyarrow("a/b.bin") as file:
        assert file.size() == 10
        assert file.read_at(3, 4) == b"456"
    store.delete("a/b.bin")
    store.delete("a/b.bin")
    assert not store.exists("a/b.bin")
    for read in (store.get, store.open_for_pyarrow):
        with pytest.raises(KeyError, match=r"a/b\.bin"):
            read("a/b.bin")


def test_an_empty_object_is_one(store: S3Storage) -> None:
    store.put_atomic("empty", b"")
    assert store.get("empty") == b""
    with store.open_for_pyarrow("empty") as file:
        assert file.read() == b""


def test_a_folder_is_not_its_namesake(store: S3Storage) -> None:
    store.put_atomic("done/0.json", b"{}")
    store.put_atomic("done-not/0.json", b"{}")
    assert list(store.list("done")) == ["done/0.json"]
    outside = S3Storage(f"s3://{store.bucket}/ru", store.config, conditional_put=False)
    assert list(outside.list("")) == []


def test_unicode_and_awkward_keys(store: S3Storage) -> None:
    keys = {"ü/ñ x+y&z=%41.bin", "日本/🙂.json", "a b/c'd(e)!.x"}
    for key in keys:
        store.put_atomic(key, key.encode())
    assert set(store.list("")) == keys
    for key in keys:
        assert store.get(key) == key.encode()
        with store.open_for_pyarrow(key) as file:
            assert file.read() == key.encode()


def test_folder_markers_and_torn_files_are_no_objects(moto_store: S3Storage) -> None:
    client = s3_client(moto_store.config)
    for key in ("run/", "run/assets/", "run/assets/.tmp-dead", "run/assets/part"):
        client.put_object(Bucket=moto_store.bucket, Key=key, Body=b"")
    assert list(moto_store.list("")) == ["assets/part"]


def test_more_keys_than_a_page(rclone: S3Server, make_store) -> None:
    with environment(rclone.env):
        store = make_store(rclone)
        folder = rclone.folder / "data" / store.bucket / "run/done"
        folder.mkdir(parents=True)
        for number in range(1003):
            (folder / f"{number:06d}").touch()
        assert len(list(store.list("done"))) == 1003


def test_the_second_writer_of_an_absent_key_changes_nothing(store: S3Storage) -> None:
    assert store.put_atomic("run.json", b"first", only_if_absent=True)
    assert not store.put_atomic("run.json", b"second", only_if_absent=True)
    assert store.get("run.json") == b"first"
    assert store.put_atomic("run.json", b"third")
    assert store.get("run.json") == b"third"


def race(store: S3Storage, key: str, bodies: Sequence[bytes]) -> list[bytes]:
    wins: list[bytes] = []
    gate = threading.Barrier(len(bodies))

    def write(body: bytes) -> None:
        gate.wait()
        if store.put_atomic(key, body, only_if_absent=True):
            wins.append(body)

    threads = [threading.Thread(target=write, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wins


def test_of_eight_racing_writers_one_wins(moto_store: S3Storage) -> None:
    wins = race(moto_store, "done/0", [bytes([k]) * 1000 for k in range(8)])
    assert len(wins) == 1
    assert moto_store.get("done/0") == wins[0]


def test_without_conditions_a_race_leaves_one_whole_object(rclone: S3Server, make_store) -> None:
    with environment(rclone.env):
        store = make_store(rclone)
        bodies = [bytes([k]) * 100_000 for k in range(8)]
        race(store, "done/0", bodies)
        assert store.get("done/0") in bodies


def test_large_objects_go_in_parts_and_appear_whole(
    store: S3Storage, big_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_client(store.config)
    seen: list[bool] = []
    real = client.upload_part

    def watched(**arguments: object) -> object:
        answer = real(**arguments)
        seen.append(store.exists("big"))
        return answer

    monkeypatch.setattr(client, "upload_part", watched)
    data = big_file.read_bytes()
    assert store.put_atomic("big", big_file, only_if_absent=True)
    assert seen == [False, False]
    assert store.get("big") == data
    assert not store.put_atomic("big", b"x" * len(data), only_if_absent=True)
    assert store.get("big") == data
    assert uploads(store) == 0
    with store.open_for_pyarrow("big") as file:
        assert file.read_at(100, 18 << 20) == data[18 << 20 : (18 << 20) + 100]


def test_a_store_travels_to_other_processes(store: S3Storage) -> None:
    store.put_atomic("x", b"1")
    twin = pickle.loads(pickle.dumps(store))
    assert twin.get("x") == b"1"
    assert (twin.uri, twin.conditional_put) == (store.uri, store.conditional_put)


def test_addresses(store: S3Storage) -> None:
    twin = open_storage(store.uri + "/", store.config, conditional_put=True)
    assert twin.uri == store.uri
    assert twin.conditional_put
    assert not open_storage(store.uri).conditional_put
    whole = open_storage(f"s3://{store.bucket}")
    whole.put_atomic("top", b"1")
    assert list(whole.list("")) == ["top"]
    for wrong in ("s3://", "s3:///run"):
        with pytest.raises(ConfigError, match="no s3:// address"):
            open_storage(wrong)
    with pytest.raises(Fatal, match="refused storage key"):
        open_storage("s3://bucket/a/../b")
    with pytest.raises(Fatal, match="refused storage key"):
        store.put_atomic("../x", b"")


def test_stale_uploads_are_swept_by_age(rclone: S3Server, make_store) -> None:
    with environment(rclone.env):
        store = make_store(rclone)
        client = s3_client(store.config)
        for key in ("run/assets/part", "elsewhere/part"):
            client.create_multipart_upload(Bucket=store.bucket, Key=key)
        assert store.sweep_temporary(time.time() - 3600) == 0
        assert open_storage(f"s3://{store.bucket}").sweep_temporary(time.time() + 60) == 0
        assert store.sweep_temporary(time.time() + 60) == 1
        assert uploads(store) == 1  # of somebody else


def test_parquet_columns_are_read_by_ranges(moto: S3Server, make_store) -> None:
    with environment(moto.env):
        store = make_store(moto)
        columns = {"id": [str(k) for k in range(100)], "blob": [b"\x07" * 100_000] * 100}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink, compression="none", use_dictionary=False)
        store.put_atomic("rows.parquet", memoryview(sink.getvalue()))
    with behind_proxy(moto, []) as proxy:
        with open_input(f"{store.uri}/rows.parquet", store.config) as file:
            parquet = pq.ParquetFile(file)
            assert parquet.read(columns=["id"]).num_rows == 100
        assert len(proxy.requests) <= 4
        assert proxy.counts["passed"] == len(proxy.requests)


def test_neighbouring_columns_share_requests(moto: S3Server, make_store) -> None:
    with environment(moto.env):
        store = make_store(moto)
    rng = np.random.default_rng(0)
    table = pa.table({f"c{k}": rng.integers(0, 1 << 60, 5000) for k in range(20)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=500)
    with behind_proxy(moto, []) as proxy:
        store.put_atomic("rows.parquet", memoryview(sink.getvalue()))
        proxy.requests.clear()
        with store.open_for_pyarrow("rows.parquet") as file:
            assert pq.ParquetFile(file).read().equals(table)
        assert len(proxy.requests) <= 8  # of 200 column chunks


def test_reads_from_any_place_in_any_order(store: S3Storage, big_file: Path) -> None:
    data = big_file.read_bytes()
    store.put_atomic("big", big_file)
    rng = np.random.default_rng(0)
    with store.open_for_pyarrow("big") as file:
        position = 0
        for _ in range(60):
            size = int(rng.choice([1, 1000, 300_000, 2 << 20]))
            jump = int(rng.choice([0, 100, -500_000, 400_000, 9 << 20]))
            position = (position + jump) % len(data)
            assert file.read_at(size, position) == data[position : position + size]
            position += size
        file.seek(len(data) - 5)
        assert file.read(10) == data[-5:]
        assert file.read(10) == b""


def test_threads_may_share_a_file(moto_store: S3Storage) -> None:
    table = pa.table({"x": list(range(20_000))})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=1000)
    moto_store.put_atomic("rows.parquet", memoryview(sink.getvalue()))
    with moto_store.open_for_pyarrow("rows.parquet") as file, ThreadPoolExecutor(4) as pool:
        groups = pool.map(lambda k: pq.ParquetFile(file).read_row_group(k), range(20))
        assert pa.concat_tables(groups).equals(table)


# --- faults


@pytest.mark.parametrize("kind", ["reset_after", "error_after"])
def test_a_lost_answer_to_a_conditional_put_reads_as_exists(
    moto: S3Server, make_store, kind
) -> None:
    """The server wrote our object, boto3 asks again and hears 412: callers adopt what stands."""
    with environment(moto.env):
        store = make_store(moto)
    with behind_proxy(moto, [Fault(kind, method="PUT", times=1)]) as proxy:
        assert not store.put_atomic("done/0.json", b"mine", only_if_absent=True)
        assert store.get("done/0.json") == b"mine"
        assert proxy.counts[kind] == 1


@pytest.mark.parametrize("kind", ["reset_after", "error_after"])
def test_a_lost_answer_to_the_completion_is_found_out(
    server: S3Server, make_store, big_file: Path, kind
) -> None:
    with environment(server.env):
        store = make_store(server)
    fault = Fault(kind, method="POST", key="uploadId=", times=1)
    with behind_proxy(server, [fault]) as proxy:
        for key in ("first", "replaced", "replaced"):
            assert store.put_atomic(key, big_file, only_if_absent=key == "first")
            fault.done = 0
        assert proxy.counts[kind] == 3
        assert store.get("first") == store.get("replaced") == big_file.read_bytes()


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("error_500", ".*"),
        ("slow_down", ".*"),
        ("reset_before", ".*"),
        ("error_in_200", "PUT|GET"),
        ("truncated", "GET"),
        ("cut_upload", "PUT"),
    ],
)
def test_passing_faults_pass(moto: S3Server, make_store, kind, method: str) -> None:
    with environment(moto.env):
        store = make_store(moto)
    with behind_proxy(moto, [Fault(kind, method=method, nth=[0, 2, 4])]) as proxy:
        store.put_atomic("x", b"0123456789" * 100)
        assert store.get("x") == b"0123456789" * 100
        assert list(store.list("")) == ["x"]
        with store.open_for_pyarrow("x") as file:
            assert file.read_at(10, 5) == b"5678901234"
        assert store.exists("x")
        assert proxy.counts[kind] >= 1


def impatient(store: S3Storage, **values: float) -> S3Storage:
    """The same store without retries by the client."""
    store.config = replace(store.config, max_attempts=1, **values)  # type: ignore[arg-type]
    return store


@pytest.mark.parametrize("kind", ["error_500", "reset_before", "truncated"])
def test_lasting_faults_are_retryable_and_leave_nothing(
    moto: S3Server, make_store, kind, big_file: Path
) -> None:
    with environment(moto.env):
        store = impatient(make_store(moto))
        store.put_atomic("x", b"0123456789")
    method = "GET" if kind == "truncated" else "GET|PUT"
    with behind_proxy(moto, [Fault(kind, method=method)]):
        for read in (store.get, lambda key: store.open_for_pyarrow(key).read()):
            with pytest.raises(Retryable):
                read("x")
        if kind != "truncated":
            with pytest.raises(Retryable):
                store.put_atomic("y", b"1")
            with pytest.raises(Retryable):
                store.put_atomic("big", big_file)
    with environment(moto.env):
        assert list(store.list("")) == ["x"]
        assert uploads(store) == 0


def test_a_silent_server_is_given_up(moto: S3Server, make_store) -> None:
    with environment(moto.env):
        store = impatient(make_store(moto), read_timeout_s=0.3)
        store.put_atomic("x", b"0")
    with behind_proxy(moto, [Fault("stall", seconds=2.0)]):
        for read in (store.get, store.open_for_pyarrow):
            start = time.monotonic()
            with pytest.raises(Retryable):
                read("x")
            assert time.monotonic() - start < 8


def test_other_bytes_than_were_sent_are_noticed(
    moto_store: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_client(moto_store.config)
    real = client.put_object

    def lossy(**arguments: object) -> object:
        del arguments["ContentMD5"]  # a server that does not check it
        return real(**arguments | {"Body": b"01234"})

    monkeypatch.setattr(client, "put_object", lossy)
    with pytest.raises(Retryable, match="other bytes"):
        moto_store.put_atomic("x", b"0123456789")


def test_tags_that_are_no_md5_are_no_fault(
    moto_store: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_client(moto_store.config)
    real = client.put_object
    monkeypatch.setattr(
        client, "put_object", lambda **kw: real(**kw) | {"ETag": '"' + "0" * 32 + '"'}
    )
    assert moto_store.put_atomic("x", b"0123456789")
