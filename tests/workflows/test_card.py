"""The dataset card tells the truth about complete and incomplete runs."""

from __future__ import annotations

from collections import Counter

from infra.run_state import RunState
from workflows.card import dataset_card

RECORD = {
    "manifest": {"rows": 1200},
    "config": {"system": "instantmesh", "preset": "micro", "seed": 7},
    "system": {"licences": ["Apache-2.0"]},
}


def _state(done: int, failed: int) -> RunState:
    return RunState(
        shards_done=1,
        rows_done=done + failed,
        counts=Counter(done=done, failed=failed),
        reasons=Counter(not_found=1, corrupt_image=failed - 1) if failed else Counter(),
    )


def test_a_complete_run() -> None:
    card = dataset_card(RECORD, _state(1195, 5))
    assert "instantmesh-micro" in card
    assert "| done | 1,195 |" in card
    assert "| failed | 5 |" in card
    assert card.index("| corrupt_image | 4 |") < card.index("| not_found | 1 |")
    assert "Licences of the weights: Apache-2.0." in card
    assert "not made yet" not in card


def test_an_incomplete_run_says_so() -> None:
    card = dataset_card(RECORD, _state(100, 0))
    assert "| not made yet | 1,100 |" in card
    assert "| reason | rows |" not in card
