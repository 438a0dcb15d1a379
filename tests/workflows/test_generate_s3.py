"""A run whose manifest, pictures, weights and output all lie in a bucket, from both servers."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from infra.commit import RUN_KEY, part_key
from infra.storage import Storage, open_storage
from tests.support.s3_servers import S3Server, environment, moto_server, rclone_server
from tests.workflows.noop_runs import INLINE, QUICK, geco, png
from workflows import cli

Capture = pytest.CaptureFixture[str]
SERVERS = {"moto": moto_server, "rclone": rclone_server}
ROWS = 10
BAD_USE = 2


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    start = SERVERS[request.param]
    with start(tmp_path_factory.mktemp(request.param)) as running, environment(running.env):
        yield running


@pytest.fixture
def bucket(server: S3Server) -> Storage:
    """A bucket with `in/m.parquet` and the pictures it names."""
    uri = server.create_bucket(f"bucket-{len(server.buckets)}")
    store = open_storage(uri)
    names = [f"img/{row}.png" for row in range(ROWS)]
    for row, name in enumerate(names):
        store.put_atomic(f"in/{name}", png(row))
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [f"i{k}" for k in range(ROWS)], "image": names}), sink)
    store.put_atomic("in/m.parquet", sink.getvalue())
    return store


def disc() -> bytes:
    """A picture with a foreground."""
    picture = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(picture).ellipse((12, 12, 52, 52), fill=(200, 90, 40, 255))
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def words(bucket: Storage, manifest: str, run: str) -> list[str]:
    out = ["--manifest", f"{bucket.uri}/{manifest}", "--out", f"{bucket.uri}/{run}"]
    return ["--system", "noop", *out, "shard_size=4"]


@pytest.mark.parametrize("manifest", ["in/m.parquet", "in/img/", "in/img/*.png"])
def test_a_run_from_bucket_to_bucket(
    bucket: Storage, server: S3Server, manifest: str, capsys: Capture
) -> None:
    common = words(bucket, manifest, "out")
    assert geco("plan", *common) == cli.OK
    assert "items       10" in capsys.readouterr().out
    assert not [key for key in bucket.list("") if key.startswith("out/")]
    assert geco("generate", *common, *INLINE, *QUICK) == cli.OK
    record = json.loads(bucket.get(f"out/{RUN_KEY}"))
    assert record["storage"]["conditional_put"] is server.conditional_put
    assert geco("status", f"{bucket.uri}/out") == cli.OK
    assert "10 of 10: 10 done" in capsys.readouterr().out
    with bucket.open_for_pyarrow(f"out/{part_key(2)}") as file:
        assert pq.read_table(file).num_rows == 2
    assert not list(bucket.list("out/.probe"))


def test_a_resume_makes_what_is_missing(bucket: Storage, capsys: Capture) -> None:
    common = [*words(bucket, "in/m.parquet", "out"), *INLINE, *QUICK]
    assert geco("generate", *common) == cli.OK
    before = {key: bucket.get(key) for key in bucket.list("out/done")}
    bucket.delete(sorted(before)[1])
    bucket.delete(f"out/{part_key(1)}")
    capsys.readouterr()
    assert geco("generate", *common) == cli.OK
    assert "made now: 4 items" in capsys.readouterr().out
    assert sorted(bucket.list("out/done")) == sorted(before)
    assert bucket.get(min(before)) == before[min(before)]


def test_a_replaced_manifest_and_a_run_inside_it_are_refused(
    bucket: Storage, capsys: Capture
) -> None:
    common = [*words(bucket, "in/img/", "out"), *INLINE, *QUICK]
    assert geco("generate", *common) == cli.OK
    bucket.put_atomic("in/img/3.png", png(200))
    assert geco("generate", *common) == BAD_USE
    assert "belongs to another manifest" in capsys.readouterr().err
    inside = [*words(bucket, "in/", "in/img/run"), *INLINE]
    assert geco("generate", *inside) == BAD_USE
    assert "lies inside the manifest folder" in capsys.readouterr().err


@pytest.mark.slow
def test_weights_from_a_bucket(
    bucket: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The digest pinned in the preset holds, and rows do not tell where the cache lay."""
    name = "instantmesh-micro-multiview.safetensors"
    data = (resources.files("geco_core") / "weights" / name).read_bytes()
    bucket.put_atomic(f"weights/{name}", data)
    bucket.put_atomic("disc.png", disc())
    digests = []
    for number in range(2):
        monkeypatch.setenv("GECO_CACHE_DIR", str(tmp_path / f"cache-{number}"))
        common = [
            *("--system", "instantmesh", "--manifest", f"{bucket.uri}/disc.png"),
            *("--out", f"{bucket.uri}/model-{number}", *INLINE, *QUICK),
            f"model.weights.multiview={bucket.uri}/weights/{name}",
        ]
        assert geco("generate", *common, "model.sampler.steps=1") == cli.OK
        (kept,) = (tmp_path / f"cache-{number}").rglob(name)
        assert hashlib.sha256(kept.read_bytes()).digest() == hashlib.sha256(data).digest()
        with bucket.open_for_pyarrow(f"model-{number}/{part_key(0)}") as file:
            (row,) = pq.read_table(file).to_pylist()
        assert row["status"] == "done"
        digests.append((row["provenance"]["config_digest"], row["glb_sha256"]))
    assert digests[0] == digests[1]
    bucket.put_atomic(f"weights/{name}", data[:-1] + bytes([data[-1] ^ 1]))
    assert geco("generate", *common, f"--out={bucket.uri}/model-2") != cli.OK
    assert "the configuration pins" in capsys.readouterr().err
