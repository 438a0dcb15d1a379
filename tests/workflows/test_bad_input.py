"""Bad images go through the real chain: each ends as one row with its own reason, the good ones are
made.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.errors import Reason
from tests.geco_core.checkpoints.published_crm import crm_words, write_crm
from workflows.cli import main

_PATH = Path(__file__).parents[1] / "geco_core" / "imaging" / "bad_images.py"
FAST = ["model.sampler.steps=1", "model.extraction.grid_res=24", "model.extraction.exact=true"]


def _corpus() -> dict[str, tuple[bytes | None, str | None, Reason | None]]:
    """Name -> bytes, path, expected reason (None: a mesh)."""
    spec = importlib.util.spec_from_file_location("bad_images", _PATH)
    assert spec is not None
    assert spec.loader is not None
    bad_images = importlib.util.module_from_spec(spec)
    sys.modules["bad_images"] = bad_images
    spec.loader.exec_module(bad_images)
    wanted = (
        "text file",
        "one pixel",
        "png 20000 x 20000",
        "png truncated",
        "jpeg truncated",
        "png damaged data",
        "cut-out png",
        "opaque png",
    )
    rows: dict[str, tuple[bytes | None, str | None, Reason | None]] = {
        name: (bad_images.CASES[name].make(), None, bad_images.CASES[name].reason)
        for name in wanted
    }
    # As a manifest value, no bytes are no image; as a file they are not one (see the image tests).
    rows["empty file"] = (b"", None, Reason.MISSING_INPUT)
    transparent = bad_images.CASES["fully transparent"].make()
    rows["fully transparent"] = (transparent, None, Reason.EMPTY_FOREGROUND)
    rows["no image"] = (None, None, Reason.MISSING_INPUT)
    rows["16-bit grey"] = (bad_images.grey16(), None, None)
    rows["animated"] = (bad_images.animated("GIF"), None, None)
    rows["cmyk"] = (bad_images.encoded(bad_images.picture("CMYK"), "JPEG"), None, None)
    return rows


def _tiny_crm(folder: Path) -> list[str]:
    write_crm(folder / "weights")
    return [
        "--system",
        "crm",
        "--preset",
        "full",
        *(f"model.{w}" for w in crm_words(folder / "weights")),
    ]


@pytest.fixture(scope="module", params=["instantmesh", "crm"])
def rows(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, object]]:
    """Output rows of one run over the corpus, by item id."""
    folder = tmp_path_factory.mktemp("bad")
    words = _tiny_crm(folder) if request.param == "crm" else FAST
    corpus = _corpus()
    manifest = folder / "manifest.parquet"
    table = {"item_id": list(corpus), "image": [data for data, _, _ in corpus.values()]}
    pq.write_table(
        pa.table(table, pa.schema([("item_id", pa.string()), ("image", pa.binary())])), manifest
    )
    arguments = ["generate", "--manifest", str(manifest), "--out", str(folder / "run")]
    code = main([*arguments, "engine=inline", "max_failure_rate=1.0", *words])
    assert code == 0
    parts = sorted((folder / "run" / "assets").glob("*.parquet"))
    found = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert sorted(str(r["item_id"]) for r in found) == sorted(corpus)
    return {str(r["item_id"]): r for r in found}


@pytest.mark.parametrize("name", list(_corpus()))
def test_every_image_ends_in_its_own_state(rows: dict[str, dict[str, object]], name: str) -> None:
    expected = _corpus()[name][2]
    row = rows[name]
    if expected is None:
        assert row["status"] == "done", row["message"]
        assert row["glb"]
        return
    assert row["status"] == "failed"
    assert row["reason"] == expected.value
    assert row["stage"]
    assert row["message"]
    assert row["glb"] is None


def test_unusual_images_say_what_was_done_to_them(rows: dict[str, dict[str, object]]) -> None:
    # type: ignore[union-attr]
    assert any("frame" in str(note) for note in rows["animated"]["notes"])


def test_a_run_of_bad_rows_alone_is_over_the_limit(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.parquet"
    pq.write_table(pa.table({"item_id": ["a", "b"], "image": [b"x", b"y"]}), manifest)
    arguments = ["generate", "--manifest", str(manifest), "--out", str(tmp_path / "run")]
    assert main([*arguments, "engine=inline", *FAST]) == 1


def test_an_unwritable_output_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "manifest.parquet"
    pq.write_table(pa.table({"item_id": ["a"], "image": [b"x"]}), manifest)
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "run"
    code = main(["generate", "--manifest", str(manifest), "--out", str(out), "engine=inline"])
    assert code == 3
    text = capsys.readouterr().err
    assert "remedy:" in text
    assert "Traceback" not in text
