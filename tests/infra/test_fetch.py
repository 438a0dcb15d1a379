"""Every way a source path can be wrong is a reason code, never an exception of the system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from geco_core.errors import BadItem, Reason
from infra.fetch import fetch


def test_paths_and_file_uris_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(b"data")
    assert fetch(str(path), max_bytes=4) == b"data"
    assert fetch(f"file://{tmp_path}/a%20picture.png", max_bytes=4) == b"data"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{}/none.png", Reason.NOT_FOUND),
        ("{}", Reason.UNSUPPORTED_INPUT),
        ("/dev/zero", Reason.UNSUPPORTED_INPUT),
        ("{}/large", Reason.TOO_MANY_BYTES),
        ("/proc/self/status", Reason.TOO_MANY_BYTES),  # says that it has no bytes
        ("http://[", Reason.FETCH_FAILED),
        ("{}/a\x00b", Reason.UNSUPPORTED_INPUT),
        ("{}/" + "n" * 5000, Reason.FETCH_FAILED),
        ("http://169.254.169.254/latest", Reason.URI_REFUSED),
        ("file://elsewhere/x", Reason.URI_REFUSED),
        ("s3://bucket/x.png", Reason.URI_REFUSED),
    ],
)
def test_wrong_sources_are_bad_items(tmp_path: Path, source: str, reason: Reason) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(BadItem) as caught:
        fetch(source.format(tmp_path), max_bytes=10, item_id="i1")
    assert caught.value.reason is reason
    assert caught.value.item_id == "i1"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_denied(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(BadItem) as caught:
        fetch(str(path), max_bytes=10)
    assert caught.value.reason is Reason.ACCESS_DENIED
