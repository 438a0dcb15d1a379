"""Every verb over every kind of broken run: a message and a remedy, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.commit import done_key, part_key
from tests.workflows.noop_runs import INLINE, QUICK, geco, generate, image_manifest
from workflows import cli

Capture = pytest.CaptureFixture[str]
CODES = {cli.OK, 1, cli.REFUSED, cli.STOPPED}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.retry.FIRST_DELAY_S", 0.0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    assert generate(image_manifest(folder), folder / "run") == cli.OK
    return folder


def _edit_record(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        record = json.loads((run / "run.json").read_text())
        change(record)
        (run / "run.json").write_text(json.dumps(record))

    return harm


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        (run / name).write_bytes(data)

    return harm


def _remove(name: str) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return harm


def _truncate(name: str, size: int) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        os.truncate(run / name, size)

    return harm


def _replace_by_folder(name: str) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return harm


def _replace_by_file(name: str) -> Callable[[Path], None]:
    def harm(run: Path) -> None:
        shutil.rmtree(run / name)
        (run / name).write_text("x")

    return harm


HARMS: dict[str, Callable[[Path], None]] = {
    "no run.json": _remove("run.json"),
    "empty run.json": _write("run.json", b""),
    "foreign run.json": _write("run.json", b'{"name": "something else"}'),
    "a list for run.json": _write("run.json", b"[1]"),
    "binary run.json": _write("run.json", b"\xff\xfe\x00"),
    "run.json of the right version only": _write("run.json", b'{"schema_version": 1}'),
    "run.json without manifest": _edit_record(lambda r: r.pop("manifest") and None),
    "run.json with a text for the manifest": _edit_record(lambda r: r.update(manifest="x")),
    "run.json without config": _edit_record(lambda r: r.pop("config") and None),
    "run.json with shard size 0": _edit_record(lambda r: r.update(shard_size=0)),
    "run.json is a folder": _replace_by_folder("run.json"),
    "truncated part": _truncate(part_key(1), 500),
    "empty part": _truncate(part_key(1), 0),
    "missing part": _remove(part_key(1)),
    "no parts at all": _remove("assets"),
    "parts are a file": _replace_by_file("assets"),
    "part is a folder": _replace_by_folder(part_key(0)),
    "empty done record": _truncate(done_key(0), 0),
    "foreign done record": _write(done_key(0), b'{"a": 1}'),
    "list as done record": _write(done_key(0), b"[]"),
    "done record of odd types": _write(
        done_key(0), b'{"shard": 0, "start": 0, "stop": "4", "counts": [1]}'
    ),
    "done record of another shard": lambda run: (
        shutil.copy(run / done_key(1), run / done_key(0)) and None
    ),
    "no done records": _remove("done"),
    "done records are a file": _replace_by_file("done"),
    "done without part beyond the plan": _write("done/000099.json", b"{}"),
    "damaged duplicates": lambda run: next(run.glob("manifest/*.i64")).write_bytes(b"abc") and None,
    "no stored manifest folder": _remove("manifest"),
    "no manifest": lambda run: (run.parent / "m.parquet").unlink(),
    "foreign manifest": lambda run: (run.parent / "m.parquet").write_bytes(b"PAR1"),
}
VERBS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "status": lambda run: ("status", run),
    "status --json": lambda run: ("status", run, "--json"),
    "verify": lambda run: ("verify", run),
    "verify --fast": lambda run: ("verify", run, "--fast"),
    "report": lambda run: ("report", run),
    "export": lambda run: ("export", run, "--out", run.parent / "out", "--glb-folder"),
    "plan": lambda run: (
        "plan",
        "--system",
        "noop",
        "--out",
        run,
        "--manifest",
        run.parent / "m.parquet",
        "shard_size=4",
        *QUICK,
    ),
    "retry --dry-run": lambda run: ("retry", run, "--all-failed", "--dry-run"),
    "retry": lambda run: ("retry", run, "--all-failed", *INLINE, *QUICK[:1], "max_failure_rate=1"),
    "repair --dry-run": lambda run: ("repair", run, "--dry-run"),
    "repair": lambda run: ("repair", run),
    "generate": lambda run: (
        "generate",
        "--system",
        "noop",
        "--out",
        run,
        "--manifest",
        run.parent / "m.parquet",
        "shard_size=4",
        "max_failure_rate=1",
        *INLINE,
        *QUICK,
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_no_verb_shows_a_traceback(harm: str, sound: Path, tmp_path: Path, capsys: Capture) -> None:
    for verb, words in VERBS.items():
        folder = tmp_path / verb.replace(" ", "")
        shutil.copytree(sound, folder)
        run = folder / "run"
        _point_at(run, folder)
        HARMS[harm](run)
        code = geco(*words(run))
        captured = capsys.readouterr()
        assert code in CODES, (verb, code)
        text = captured.out + captured.err
        assert "Traceback" not in text, (verb, text)
        assert "add --debug" not in text, (verb, text)  # an error nobody thought of
        if code in {cli.REFUSED, cli.STOPPED}:
            assert "error" in captured.err, (verb, text)
            assert "remedy:" in captured.err, (verb, text)


def _point_at(run: Path, folder: Path) -> None:
    """Let the copied run name the copied manifest."""
    record = json.loads((run / "run.json").read_text())
    manifest = record["manifest"]
    manifest["base"] = str(folder)
    manifest["source"] = str(folder / "m.parquet")
    for file in manifest["files"]:
        file["path"] = str(folder / "m.parquet")
    (run / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize("verb", ["status", "verify", "repair", "report"])
@pytest.mark.parametrize("where", ["nowhere", "file", "dangling", "loop"])
def test_places_that_hold_no_run(verb: str, where: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / where
    if where == "file":
        path.write_text("x")
    elif where == "dangling":
        path.symlink_to(tmp_path / "gone")
    elif where == "loop":
        path.symlink_to(path)
    assert geco(verb, path) in {cli.REFUSED, cli.STOPPED}
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert "add --debug" not in text
    assert "remedy:" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["", "done", "assets", "run.json"])
def test_an_unreadable_folder(name: str, sound: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    shutil.copytree(sound / "run", run)
    closed = run / name
    closed.chmod(0)
    try:
        for verb in ("status", "verify", "repair", "report"):
            if name == "assets" and verb in {"status", "report"}:
                assert geco(verb, run) == cli.OK  # done records are enough; the page says so
                continue
            assert geco(verb, run) == cli.STOPPED
            assert "check owner and permissions" in capsys.readouterr().err
    finally:
        closed.chmod(0o755)


def test_an_unreadable_folder_as_the_store_says_it(
    sound: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for verb in ("status", "verify", "repair", "report"):
        assert geco(verb, sound / "run") == cli.STOPPED
        text = capsys.readouterr().err
        assert "check owner and permissions" in text
        assert "Traceback" not in text


def test_store_addresses_that_make_no_sense(capsys: Capture) -> None:
    for uri in ("gs://bucket/run", "s3://", "s3:///run", "s3://B_ucket!/x", "ftp://x"):
        assert geco("status", uri, "s3.endpoint_url=http://127.0.0.1:1") in {
            cli.REFUSED,
            cli.STOPPED,
        }
        text = capsys.readouterr().err
        assert "Traceback" not in text
        assert "add --debug" not in text
        assert "remedy:" in text
