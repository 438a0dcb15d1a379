"""Local files: inside the roots they are read, outside they are not, whatever the path pretends."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from geco_core.errors import BadItem, Reason, Retryable
from infra.fetch import local
from infra.fetch.local import LocalSource

LIMIT = 10


def reader(*roots: Path, declared: tuple[str, ...] = ()) -> LocalSource:
    return LocalSource([*map(str, roots), *declared], declared, LIMIT)


def refusal(source: LocalSource, path: str | Path) -> BadItem:
    with pytest.raises(BadItem) as caught:
        source.fetch(str(path), "i1")
    assert caught.value.item_id == "i1"
    assert caught.value.remedy
    return caught.value


def test_paths_and_file_uris_are_read(tmp_path: Path) -> None:
    for name in ("a picture.png", "b?c#d.png", "é.png"):
        (tmp_path / name).write_bytes(name.encode()[:5])
        path = tmp_path / name
        for text in (
            str(path),
            path.as_uri(),
            path.as_uri().replace("file://", "file://localhost"),
        ):
            assert reader(tmp_path).fetch(text, None) == name.encode()[:5]
    raw = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    raw.write_bytes(b"data")
    assert reader(tmp_path).fetch(raw.as_uri(), None) == b"data"
    assert reader(tmp_path).fetch(str(raw), None) == b"data"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.png", Reason.NOT_FOUND),
        ("file/x.png", Reason.NOT_FOUND),
        (".", Reason.UNSUPPORTED_INPUT),
        ("pipe", Reason.UNSUPPORTED_INPUT),
        ("listening", Reason.UNSUPPORTED_INPUT),
        ("loop", Reason.UNSUPPORTED_INPUT),
        ("n" * 300, Reason.UNSUPPORTED_INPUT),
        ("n/" * 5000, Reason.UNSUPPORTED_INPUT),
        ("large", Reason.TOO_MANY_BYTES),
        ("\ud800.png", Reason.UNSUPPORTED_INPUT),
        ("../outside.png", Reason.URI_REFUSED),
        ("escape.png", Reason.URI_REFUSED),
        ("folder/escape.png", Reason.URI_REFUSED),
        ("zero", Reason.URI_REFUSED),
    ],
)
def test_wrong_paths(tmp_path: Path, name: str, reason: Reason) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.png").write_bytes(b"x")
    (inside / "file").write_bytes(b"x")
    (inside / "large").write_bytes(b"x" * (LIMIT + 1))
    (inside / "escape.png").symlink_to(tmp_path / "outside.png")
    (inside / "folder").symlink_to(tmp_path)
    (tmp_path / "escape.png").symlink_to("outside.png")
    (inside / "loop").symlink_to("loop")
    (inside / "zero").symlink_to("/dev/zero")
    os.mkfifo(inside / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(inside)  # the name of a socket has to be short
        try:
            listener.bind("listening")
        finally:
            os.chdir(here)
        error = refusal(reader(inside), f"{inside}/{name}")
    assert error.reason is reason


def test_the_remedy_is_the_setting(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    error = refusal(reader(tmp_path / "in", declared=("/data/a",)), tmp_path / "x.png")
    assert error.reason is Reason.URI_REFUSED
    assert f"""'fetch.roots=["/data/a","{tmp_path}"]'""" in error.remedy
    (tmp_path / "x.png").write_bytes(b"x")
    again = reader(tmp_path / "in", declared=("/data/a", str(tmp_path)))
    assert again.fetch(str(tmp_path / "x.png"), None) == b"x"


def test_what_lies_outside_is_not_even_looked_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert refusal(reader(tmp_path / "in"), "/etc/none-such").reason is Reason.URI_REFUSED
    assert refusal(reader(tmp_path / "in"), "/etc/passwd").reason is Reason.URI_REFUSED


def test_neighbours_of_a_root_are_outside(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data-private").mkdir()
    (tmp_path / "data-private" / "x").write_bytes(b"x")
    error = refusal(reader(tmp_path / "data"), tmp_path / "data-private" / "x")
    assert error.reason is Reason.URI_REFUSED


def test_without_roots_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    for roots in ((), ("",), ("s3://bucket/folder",)):
        source = LocalSource(roots, (), LIMIT)
        assert refusal(source, tmp_path / "x").reason is Reason.URI_REFUSED


def test_a_file_exchanged_after_the_check_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    path = inside / "x.png"
    path.write_bytes(b"y")
    plain_open = os.open

    def exchanging(name: str | Path, flags: int) -> int:
        path.unlink()
        path.symlink_to(tmp_path / "secret")
        return plain_open(name, flags)

    monkeypatch.setattr(local.os, "open", exchanging)
    assert refusal(reader(inside), path).reason is Reason.URI_REFUSED


def test_files_that_understate_their_size_are_capped() -> None:
    error = refusal(reader(Path("/proc")), "/proc/self/status")
    assert error.reason is Reason.TOO_MANY_BYTES


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("file://elsewhere/x", Reason.URI_REFUSED),
        ("file://[", Reason.UNSUPPORTED_INPUT),
        ("file:///a%00b", Reason.UNSUPPORTED_INPUT),
        ("file:///etc/passwd", Reason.URI_REFUSED),
    ],
)
def test_wrong_file_uris(tmp_path: Path, uri: str, reason: Reason) -> None:
    assert refusal(reader(tmp_path), uri).reason is reason


def test_unreadable_files_are_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(local.os, "open", denied)
    assert refusal(reader(tmp_path), path).reason is Reason.ACCESS_DENIED


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_faults_of_the_disk_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "x").write_bytes(b"x")

    def failing(*_: object) -> int:
        raise OSError(number, "")

    monkeypatch.setattr(local.os, "open", failing)
    with pytest.raises(Retryable):
        reader(tmp_path).fetch(str(tmp_path / "x"), None)


def test_messages_are_one_short_line(tmp_path: Path) -> None:
    message = refusal(reader(tmp_path), f"{tmp_path}/a\nb\x1b[31m" + "c" * 1000).message
    assert message.isprintable()
    assert len(message) < 300
