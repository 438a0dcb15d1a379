"""The claims of CRM: verdicts follow the numbers, parts are kept apart, and both parts run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks.claims_crm import (
    CLAIMS,
    convergence,
    convergence_table,
    quality,
    quality_table,
    record,
    training_examples,
    verdicts,
)
from geco_core.config.models import ExtractionConfig
from geco_core.evaluate.convergence import RaceConfig
from geco_core.evaluate.crm_learners import MAPS, NO_MAPS, TRANSFORMER
from geco_core.evaluate.crm_quality import GENERATED, TRUE, CrmChain
from geco_core.evaluate.crm_truth import load_crm_heldout
from geco_core.evaluate.summary import paired, summarise
from geco_core.multiview.crm import CrmDiffusion
from geco_core.training.crm_examples import CrmCacheSpec, make_crm_examples
from geco_core.training.crm_workspace import CrmRecipeConfig, CrmWorkspace
from tests.geco_core.multiview.crm_models import CRM, seeded
from tests.geco_core.reconstruct.crm_models import tiny_crm

MACHINE = {"cpu": "a processor", "torch": "2"}
GOOD = {MAPS: (0.7, 0.9), NO_MAPS: (0.6, 0.85), TRANSFORMER: (0.3, 0.65)}


def part(ious: dict[str, tuple[float, float]] = GOOD) -> dict[str, Any]:
    """What `convergence` returns for IoU after 30 and 60 s, alike for all objects but a little."""
    last = {name: [values[1] + 0.001 * i for i in range(4)] for name, values in ious.items()}
    return {
        "objects": 4,
        "objects_at_marks": 4,
        "batch_size": 8,
        "parameters": dict.fromkeys(ious, 1_500_000),
        "curves": {
            name: [
                {"cpu_s": cpu_s, "steps": cpu_s * 2, "score": score}
                for cpu_s, score in zip((30.0, 60.0), scores, strict=True)
            ]
            for name, scores in ious.items()
        },
        "iou": {name: summarise(scores, 0).to_json() for name, scores in last.items()},
        "gaps": {
            f"{a} - {b}": paired(last[a], last[b], 0).to_json()
            for a, b in ((MAPS, NO_MAPS), (MAPS, TRANSFORMER), (NO_MAPS, TRANSFORMER))
        },
        "machine": MACHINE,
    }


def held(ious: dict[str, tuple[float, float]]) -> list[str]:
    return [claim for claim, holds, _ in verdicts(part(ious)) if holds]


def test_claims_hold_and_fall_with_their_numbers() -> None:
    assert held(GOOD) == list(CLAIMS)
    assert held({**GOOD, NO_MAPS: (0.6, 0.9)}) == [CLAIMS[1]]
    assert held({**GOOD, TRANSFORMER: (0.3, 0.95)}) == [CLAIMS[0]]
    assert held({**GOOD, TRANSFORMER: (0.65, 0.8)}) == [CLAIMS[0]]  # not reached any sooner
    assert held({**GOOD, TRANSFORMER: (0.75, 0.6)}) == list(CLAIMS)  # behind at first, and told


def test_the_table_says_who_was_where_when() -> None:
    text = convergence_table(part())
    assert text.count("holds |") == 2
    assert f"| {TRANSFORMER} | 1.50 M | 120 | 0.300 | 0.650 | 0.652 |" in text
    assert "after 60 CPU s within 30 s, without maps within 60 s" in text
    assert "a processor, torch 2" in text
    slow = convergence_table(part({**GOOD, NO_MAPS: (0.1, 0.6)}))
    assert "without maps within none of the marks" in slow


def test_a_part_of_the_results_is_replaced_alone(tmp_path: Path) -> None:
    path = tmp_path / "claims_crm.json"
    record(path, "quality", {"objects": 1, "machine": MACHINE})
    record(path, "convergence", {"objects": 2})
    record(path, "convergence", {"objects": 3})
    found = json.loads(path.read_text())
    assert found["quality"] == {"objects": 1, "machine": MACHINE}
    assert found["convergence"] == {"objects": 3}


def test_examples_of_something_else_are_left_alone(tmp_path: Path) -> None:
    spec = asdict(CrmCacheSpec(examples=7))
    (tmp_path / "READY.json").write_text(json.dumps(spec))
    with pytest.raises(ValueError, match="other examples"):
        training_examples(tmp_path, 8, lambda _: None)
    assert json.loads((tmp_path / "READY.json").read_text()) == spec


def test_the_learners_run_side_by_side(tmp_path: Path) -> None:
    space = CrmWorkspace(tmp_path, CrmRecipeConfig())
    lines: list[str] = []
    config = RaceConfig(budget_s=0.02, slice_s=0.01, marks_s=(0.01,))
    found = convergence(
        space,
        make_crm_examples(CrmCacheSpec(examples=8)),
        load_crm_heldout(2, points=200),
        config,
        lines.append,
    )
    assert [len(curve) for curve in found["curves"].values()] == [2, 2, 2]
    assert len(lines) == 6
    assert all(summary["count"] == 2 for summary in found["iou"].values())
    text = convergence_table(json.loads(json.dumps(found | {"machine": MACHINE})))
    assert "all 2" in text


def test_quality_runs_on_any_chain() -> None:
    chain = CrmChain(seeded(CrmDiffusion, CRM), tiny_crm(), ExtractionConfig(grid_res=16))
    truth = load_crm_heldout(2, view_size=16, points=200)
    found, drawn = quality(chain, truth, lambda _: None)
    assert found["met"] == {
        f"iou from {TRUE} >= 0.88": False,
        f"render_psnr from {TRUE} >= 25.0": False,
        f"iou from {GENERATED} >= 0.65": False,
    }
    assert [row.shape for row in drawn] == [(128, 768, 3)] * 2
    text = quality_table(json.loads(json.dumps(found | {"machine": MACHINE})))
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert "extract" in text
