"""Every bad manifest of the corpus goes through the program: refused with a remedy before any work,
or each row ends as its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.corpus.case import Manifest
from tests.corpus.manifests_odd import ODD
from tests.corpus.manifests_parquet import FOLDERS, PARQUET
from tests.corpus.manifests_text import CSV, JSONL
from workflows.cli import main

CASES = [*CSV, *JSONL, *PARQUET, *FOLDERS, *ODD]


def command(verb: str, case: Manifest, argument: str, out: Path) -> int:
    return main(
        [
            *(verb, "--manifest", argument, "--out", str(out), "--system", "noop"),
            *("max_failure_rate=1.0", "engine=inline", *case.settings),
        ]
    )


def refused(text: str, case: Manifest) -> None:
    """Assert that stderr names the fault and a way out, in words."""
    assert "Traceback" not in text
    assert "remedy: " in text
    assert case.text in text
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text) < 2000


def test_the_corpus_is_large_and_its_names_differ() -> None:
    assert len(CASES) >= 100
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_manifests_end_in_their_own_state(
    case: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    argument = case.make(tmp_path / "in")
    if case.rows is None:
        for verb, expected in zip(("plan", "generate"), case.codes, strict=True):
            code = command(verb, case, argument, tmp_path / "run")
            text = capsys.readouterr().err
            assert code == expected, (verb, text)
            if expected:
                refused(text, case)
        assert not (tmp_path / "run" / "assets").exists()
        return
    assert command("generate", case, argument, tmp_path / "run") == 0
    rows = made(tmp_path / "run")
    assert tuple(row["reason"] for row in rows) == tuple(
        None if reason is None else reason.value for reason in case.rows
    ), [row["message"] for row in rows]
    assert not case.text or any(case.text in row["message"] for row in rows if row["message"])
    assert all(row["message"].isprintable() for row in rows if row["message"])
    assert len({row["item_id"] for row in rows if row["reason"] != "duplicate_id"}) == len(
        [row for row in rows if row["reason"] != "duplicate_id"]
    )


def made(run: Path) -> list[dict[str, Any]]:
    """Output rows in manifest order; done rows have no reason."""
    parts = sorted((run / "assets").glob("*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    return [row | {"reason": row["reason"] or None} for row in rows]
