"""Every bad image of the corpus goes through one run over the real preparation and ends as its own
row. Those that decode after all are prepared here, and made by the slow test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.imaging.decode import decode_image
from geco_core.imaging.framing import resize_foreground
from geco_core.imaging.matting import foreground_rgba
from tests.corpus import images_bombs, images_damaged, images_foreign, images_odd
from tests.corpus.case import Case
from workflows.cli import main

CASES = [
    *images_damaged.CASES,
    *images_foreign.CASES,
    *images_bombs.CASES,
    *images_odd.CASES,
]
REFUSED = [case for case in CASES if case.reason is not None]
ACCEPTED = [case for case in CASES if case.reason is None]
FAST = ["model.sampler.steps=1", "model.extraction.grid_res=8", "model.extraction.exact=true"]

Rows = dict[str, dict[str, Any]]


def run(folder: Path, cases: list[Case]) -> Rows:
    """Output rows of one run, by item id. The files are all called .png."""
    names = [f"{index:03d}.png" for index in range(len(cases))]
    for name, case in zip(names, cases, strict=True):
        (folder / name).write_bytes(case.make())
    manifest = folder / "manifest.parquet"
    pq.write_table(pa.table({"item_id": [c.name for c in cases], "image": names}), manifest)
    code = main(
        [
            *("generate", "--manifest", str(manifest), "--out", str(folder / "run")),
            *("engine=inline", "max_failure_rate=1.0", *FAST),
        ]
    )
    assert code == 0
    parts = sorted((folder / "run" / "assets").glob("*.parquet"))
    found = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert [row["item_id"] for row in found] == [case.name for case in cases]
    return {row["item_id"]: row for row in found}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return run(tmp_path_factory.mktemp("images"), [*REFUSED, ACCEPTED[0]])


def test_the_corpus_is_large_and_its_names_differ() -> None:
    assert len(REFUSED) >= 100
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_bad_images_end_in_their_own_state(rows: Rows, case: Case) -> None:
    row = rows[case.name]
    assert case.reason is not None
    assert row["status"] == "failed"
    assert row["reason"] == case.reason.value, row["message"]
    assert row["stage"] == "prepare"
    assert case.text in row["message"]
    assert row["message"].isprintable()
    assert row["glb"] is None


def test_the_sound_neighbour_is_made(rows: Rows) -> None:
    assert rows[ACCEPTED[0].name]["status"] == "done"


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_odd_images_are_prepared_with_a_remark(case: Case) -> None:
    decoded = decode_image(case.make(), item_id=case.name)
    rgba, notes = foreground_rgba(decoded, item_id=case.name)
    assert resize_foreground(rgba, 0.85).shape[2] == 4
    assert case.text in " ".join([*decoded.notes, *notes])


@pytest.mark.slow
def test_odd_images_are_made(tmp_path: Path) -> None:
    for row in run(tmp_path, ACCEPTED).values():
        assert row["status"] == "done", (row["item_id"], row["reason"], row["message"])
