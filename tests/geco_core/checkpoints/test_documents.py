"""JSON beside weights: read with a limit, refused with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from geco_core.checkpoints import documents
from geco_core.checkpoints.documents import read_document
from geco_core.errors import Fatal


def test_a_map_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_document(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"a": "\xff"}', b"[" * 100_000])
def test_anything_else_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(Fatal, match="is not") as caught:
        read_document(tmp_path / "x.json")
    assert caught.value.remedy


def test_large_and_absent_ones_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_BYTES", 10)
    (tmp_path / "x.json").write_text('{"a": "0123456789"}')
    with pytest.raises(Fatal, match="larger than 10"):
        read_document(tmp_path / "x.json")
    with pytest.raises(Fatal, match="can not be read"):
        read_document(tmp_path / "y.json")
