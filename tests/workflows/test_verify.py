"""`geco verify` as a user meets it: exit codes, text, JSON, and GLBs that are read back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.commit import done_key, part_key
from infra.dataset import SUMMARY_KEY
from tests.workflows.noop_runs import geco, generate, image_manifest
from workflows import cli
from workflows.verify import glb_fault

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    out = tmp_path / "run"
    assert generate(image_manifest(tmp_path), out) == cli.OK
    return out


def test_a_sound_run(run: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert geco("verify", run) == cli.OK
    text = capsys.readouterr().out
    assert "complete: 10 of 10 rows (7 done, 3 failed)" in text
    assert "every row and every GLB" in text
    assert "nothing wrong" in text
    assert geco("verify", run, "--fast", "--json") == cli.OK
    result = json.loads(capsys.readouterr().out)
    assert (result["sound"], result["fast"], result["faults"]) == (True, True, 0)


def test_an_incomplete_run(run: Path, capsys: Capture) -> None:
    (run / done_key(1)).unlink()
    (run / part_key(1)).unlink()
    capsys.readouterr()
    assert geco("verify", run) == 1
    text = capsys.readouterr().out
    assert "incomplete: 6 of 10 rows" in text
    assert "geco generate makes the other 1" in text
    assert "nothing wrong" in text


def test_a_fault_is_named_with_its_remedy(run: Path, capsys: Capture) -> None:
    (run / part_key(1)).unlink()
    capsys.readouterr()
    assert geco("verify", run) == 1
    text = capsys.readouterr().out
    assert "part_missing: 1  (remedy: geco repair" in text
    assert "  shard 1: there is no assets/part-000001.parquet" in text
    assert geco("verify", run, "--json") == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["kind"], finding["shard"]) == ("part_missing", 1)


def test_a_glb_that_has_its_digest_and_does_not_read_is_found(run: Path, capsys: Capture) -> None:
    path = run / part_key(0)
    table = pq.read_table(path)
    summary = table.schema.metadata[SUMMARY_KEY]
    rows = table.to_pylist()
    torn = rows[0]["glb"][:-8]
    rows[0] |= {"glb": torn, "glb_sha256": hashlib.sha256(torn).hexdigest()}
    changed = pa.Table.from_pylist(rows, table.schema)
    pq.write_table(changed.replace_schema_metadata({SUMMARY_KEY: summary}), path)
    capsys.readouterr()
    assert geco("verify", run) == 1
    text = capsys.readouterr().out
    assert "glb_invalid: 1" in text
    assert "shard 0: row 0, item i0: the GLB does not read back" in text


def test_repair_then_generate_mends_the_run(run: Path, capsys: Capture) -> None:
    (run / part_key(0)).write_bytes(b"torn")
    (run / part_key(2)).unlink()
    (run / done_key(1)).write_text("{")
    assert geco("verify", run, "--fast") == 1
    capsys.readouterr()
    assert geco("repair", run, "--dry-run") == cli.OK
    assert "4 actions to do: rewrite_done 1, withdraw_done 2, remove_damaged 1" in (
        capsys.readouterr().out
    )
    assert geco("repair", run) == cli.OK
    text = capsys.readouterr().out
    assert "4 actions done" in text
    assert "makes withdrawn shards again" in text
    assert geco("repair", run) == cli.OK
    assert "nothing to repair" in capsys.readouterr().out
    assert generate(run.parent / "m.parquet", run) == cli.OK
    assert geco("verify", run) == cli.OK


@pytest.mark.parametrize("data", [b"", b"glTF", b"x" * 100, b"glTF" + bytes(60)])
def test_junk_is_no_glb(data: bytes) -> None:
    assert glb_fault(data)
