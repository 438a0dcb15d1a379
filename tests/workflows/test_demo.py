"""The demo manifest: held-out objects as transparent PNGs and a readable Parquet manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from workflows.demo import main


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_objects_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(["--out", str(tmp_path / name), "--count", "2", "--first", "5"]) == 0
    assert _digests(tmp_path / "one") == _digests(tmp_path / "two")
    rows = pq.read_table(tmp_path / "one" / "manifest.parquet").to_pylist()
    assert [r["item_id"] for r in rows] == ["heldout-00005", "heldout-00006"]
    for row in rows:
        with Image.open(tmp_path / "one" / row["image"]) as image:
            assert image.mode == "RGBA"
            assert image.size == (256, 256)
            low, high = image.getchannel("A").getextrema()
            assert (low, high) == (0, 255)
        assert row["class_name"].replace("_", " ").split()[0] in row["caption"]
