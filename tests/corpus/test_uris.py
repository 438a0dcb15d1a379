"""Every bad source of the corpus goes through a run and ends as its own row, without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from tests.corpus.case import Place, Source
from tests.corpus.uris import FILE_URIS, OBJECTS, PATHS, SCHEMES
from tests.corpus.uris_web import ANSWERED, GUARDED
from tests.corpus.web import serving
from workflows.cli import main

LOCAL = [*PATHS, *FILE_URIS, *SCHEMES]
Rows = dict[str, dict[str, Any]]


def run(folder: Path, cases: Sequence[Source], url: Any, *settings: str) -> Rows:
    """Output rows of one run, by item id."""
    inside, outside = folder / "inside", folder / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    place = Place(inside, outside, url)
    sources = [case.make(place) for case in cases]
    manifest = inside / "manifest.parquet"
    pq.write_table(pa.table({"item_id": [c.name for c in cases], "image": sources}), manifest)
    code = main(
        [
            *("generate", "--manifest", str(manifest), "--out", str(folder / "run")),
            *("--system", "noop", "engine=inline", "max_failure_rate=1.0", "prepare_threads=4"),
            *settings,
        ]
    )
    assert code == 0
    parts = sorted((folder / "run" / "assets").glob("*.parquet"))
    found = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert [row["item_id"] for row in found] == [case.name for case in cases]
    return {row["item_id"]: row for row in found}


def check(row: dict[str, Any], case: Source) -> None:
    """Assert that a row ended as its case says."""
    if case.reason is None:
        assert row["status"] == "done", row["message"]
        return
    assert row["status"] == "failed"
    assert row["reason"] == case.reason.value, row["message"]
    assert row["stage"] == "fetch"
    assert case.text in row["message"]
    assert row["message"].isprintable()
    assert row["message"].rstrip().endswith(")"), "a remedy in brackets"
    for secret in ("0123456789abcdef", "hunter2"):
        assert secret not in row["message"]


def test_the_corpus_is_large_and_its_names_differ() -> None:
    cases = [*LOCAL, *GUARDED, *ANSWERED, *OBJECTS]
    assert len(cases) >= 100
    assert len({case.name for case in cases}) == len(cases)


@pytest.fixture(scope="module")
def local_rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return run(tmp_path_factory.mktemp("local"), LOCAL, str)


@pytest.mark.parametrize("case", LOCAL, ids=lambda case: case.name)
def test_local_sources_end_in_their_own_state(local_rows: Rows, case: Source) -> None:
    check(local_rows[case.name], case)


@pytest.fixture(scope="module")
def guarded_rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("guarded")
    return run(folder, GUARDED, str, "fetch.schemes=[http,https]")


@pytest.mark.parametrize("case", GUARDED, ids=lambda case: case.name)
def test_closed_addresses_are_not_reached(guarded_rows: Rows, case: Source) -> None:
    check(guarded_rows[case.name], case)


@pytest.fixture(scope="module")
def answered_rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    with serving() as server:
        return run(
            tmp_path_factory.mktemp("answered"),
            ANSWERED,
            server.url,
            "fetch.schemes=[http]",
            "fetch.allow_hosts=[127.0.0.1]",
            f"fetch.http_ports=[{server.port},80]",
            "fetch.timeout_s=0.5",
            "max_source_bytes=1000000",
        )


@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case.name)
def test_servers_that_do_not_behave_cost_one_row(answered_rows: Rows, case: Source) -> None:
    check(answered_rows[case.name], case)


@pytest.fixture(scope="module")
def object_rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rows]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket="pictures")
        client.put_object(Bucket="pictures", Key="a%20b.png", Body=b"data")
        client.put_object(Bucket="pictures", Key="large", Body=bytes(2000))
        yield run(
            tmp_path_factory.mktemp("objects"),
            OBJECTS,
            str,
            f"s3.endpoint_url={endpoint}",
            "max_source_bytes=1000",
        )
    server.stop()


@pytest.mark.parametrize("case", OBJECTS, ids=lambda case: case.name)
def test_objects_end_in_their_own_state(object_rows: Rows, case: Source) -> None:
    check(object_rows[case.name], case)


def test_the_setting_of_the_remedy_admits_the_source(tmp_path: Path) -> None:
    outside = Source("outside", lambda p: f"{p.outside}/secret.png", None)
    rows = run(tmp_path, [outside], str, f'fetch.roots=["{tmp_path / "outside"}"]')
    check(rows["outside"], outside)


@pytest.mark.parametrize("setting", ["fetch.roots=[images]", "fetch.allow_hosts=['no host']"])
def test_settings_no_worker_could_use_are_refused_before_any_work(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("id,prompt\na,chair\n")
    words = ["--manifest", str(manifest), "--out", str(tmp_path / "run"), "--system", "noop"]
    for verb in ("plan", "generate"):
        assert main([verb, *words, setting]) == 2
        assert "remedy: " in capsys.readouterr().err
    assert not (tmp_path / "run" / "assets").exists()
