"""Every verb on a run in a bucket, with both kinds of server: conditional puts kept and ignored."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geco_core.config.run import S3Config
from infra.commit import done_key, part_key
from infra.run_state import done_generations
from infra.storage import Storage, open_storage
from tests.support.s3_servers import S3Server, environment, moto_server, rclone_server
from tests.workflows.noop_runs import INLINE, geco, generate, image_manifest, png
from workflows import cli

Capture = pytest.CaptureFixture[str]
SERVERS = {"moto": moto_server, "rclone": rclone_server}
AGAIN = (*INLINE, "finish_isolation=inline", "max_failure_rate=1")


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        without_endpoint = {k: v for k, v in running.env.items() if "ENDPOINT" not in k}
        with environment(without_endpoint):
            yield running


@dataclass(frozen=True)
class Bucket:
    """A bucket with a run of shards of 4 rows: rows 2, 3 and 7 are not_found."""

    uri: str
    word: str
    folder: Path
    storage: Storage


@pytest.fixture
def bucket(server: S3Server, tmp_path: Path) -> Bucket:
    name = server.create_bucket(f"b{len(server.buckets)}-{server.name}")
    uri, word = f"{name}/runs/a", f"s3.endpoint_url={server.endpoint_url}"
    storage = open_storage(uri, S3Config(endpoint_url=server.endpoint_url))
    assert generate(image_manifest(tmp_path), uri, word) == cli.OK
    return Bucket(uri, word, tmp_path, storage)


def test_the_verbs_that_only_read(bucket: Bucket, capsys: Capture) -> None:
    before = sorted(bucket.storage.list(""))
    capsys.readouterr()
    assert geco("status", bucket.uri, bucket.word) == cli.OK
    assert "complete" in capsys.readouterr().out
    assert geco("status", bucket.uri, bucket.word, "--json") == cli.OK
    assert json.loads(capsys.readouterr().out)["counts"] == {"done": 7, "failed": 3}
    for words in ([], ["--fast"]):
        assert geco("verify", bucket.uri, *words, bucket.word) == cli.OK
        assert "nothing wrong" in capsys.readouterr().out
    plan = ("--system", "noop", "--manifest", bucket.folder / "m.parquet", "--out", bucket.uri)
    assert geco("plan", *plan, "shard_size=4", "thumbnail_size=0", bucket.word) == cli.OK
    assert "3 done" in capsys.readouterr().out
    assert sorted(bucket.storage.list("")) == before


def test_retry_and_what_a_death_leaves_of_it(bucket: Bucket, capsys: Capture) -> None:
    storage = bucket.storage
    old = {key: storage.get(key) for key in (part_key(0), done_key(0))}
    for row in (2, 3, 7):
        (bucket.folder / f"img/{row}.png").write_bytes(png(row))
    words = ("retry", bucket.uri, "--all-failed", bucket.word, *AGAIN)
    assert geco(*words) == cli.OK
    assert "made again: 3 rows of 2 shards, 3 done now" in capsys.readouterr().out
    assert done_generations(storage) == {0: 1, 1: 1, 2: 0}
    assert sorted(storage.list("assets")) == [part_key(0, 1), part_key(1, 1), part_key(2)]
    for key, data in old.items():
        storage.put_atomic(key, data)
    assert geco("verify", bucket.uri, bucket.word) == cli.OK
    assert "superseded: 1" in capsys.readouterr().out
    assert geco("repair", bucket.uri, bucket.word) == cli.OK
    assert not storage.exists(part_key(0))
    assert geco("verify", bucket.uri, bucket.word) == cli.OK
    assert "nothing wrong" in capsys.readouterr().out


def test_damage_is_found_repaired_and_made_again(bucket: Bucket, capsys: Capture) -> None:
    storage = bucket.storage
    storage.put_atomic(part_key(0), storage.get(part_key(0))[:-40])
    storage.put_atomic(done_key(1), b"{")
    storage.delete(part_key(2))
    assert geco("verify", bucket.uri, bucket.word, "--fast") == 1
    text = capsys.readouterr().out
    assert all(name in text for name in ("part_damaged: 1", "done_damaged: 1", "part_missing: 1"))
    assert geco("repair", bucket.uri, bucket.word) == cli.OK
    assert generate(bucket.folder / "m.parquet", bucket.uri, bucket.word) == cli.OK
    assert geco("verify", bucket.uri, bucket.word) == cli.OK


def test_a_report_is_written_beside_the_run(bucket: Bucket, capsys: Capture) -> None:
    capsys.readouterr()
    assert geco("report", bucket.uri, bucket.word) == cli.OK
    assert capsys.readouterr().out == f"{bucket.uri}/report/index.html\n"
    page = bucket.storage.get("report/index.html").decode()
    assert "i0" in page
    assert "data:image/png" in page


def test_export_from_a_bucket_into_a_bucket_and_a_folder(bucket: Bucket) -> None:
    out = bucket.uri.replace("/runs/a", "/exports/a")
    words = ("--glb-folder", "--rows-per-file", 3, bucket.word)
    for _ in range(2):
        assert geco("export", bucket.uri, "--out", out, *words) == cli.OK
    assert geco("export", bucket.uri, "--out", bucket.folder / "local", *words) == cli.OK
    there = open_storage(out, S3Config(endpoint_url=bucket.word.partition("=")[2]))
    here = open_storage(str(bucket.folder / "local"))
    assert sorted(there.list("")) == sorted(here.list(""))
    for key in there.list("data"):
        rows = [pq.read_table(io.BytesIO(store.get(key))) for store in (there, here)]
        assert rows[0].equals(rows[1])
    assert len(list(there.list("glb"))) == 7 + 1
    inside = f"{bucket.uri}/assets/export"
    assert geco("export", bucket.uri, "--out", inside, bucket.word) == cli.REFUSED


def test_wrong_addresses_and_no_server_end_in_a_remedy(bucket: Bucket, capsys: Capture) -> None:
    nowhere = ("s3.endpoint_url=http://127.0.0.1:9", "s3.max_attempts=1")
    for words in (
        ("status", "s3://no-such-bucket-here/run", bucket.word),
        ("status", bucket.uri.replace("/a", "/b"), bucket.word),
        ("verify", bucket.uri, *nowhere, "s3.connect_timeout_s=1"),
    ):
        assert geco(*words) in {cli.REFUSED, cli.STOPPED}
        text = capsys.readouterr().err
        assert "remedy:" in text
        assert "add --debug" not in text
        assert "Traceback" not in text
