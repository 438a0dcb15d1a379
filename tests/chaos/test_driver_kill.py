"""A few of the kills that `python -m tests.chaos.driver_kill --items 300 --kills 5` does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tests.chaos.driver_kill import trial

NOOP = ("--system", "noop", "--workers", "1")
SETTINGS = (*NOOP, "thumbnail_size=0", "shard_size=4", "model.generate_s=0.1")


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_killed_driver_loses_nothing_and_leaves_nothing(
    tmp_path: Path, chaos_rounds: int
) -> None:
    """One round: a kill between two commits. More rounds: kills at any moment, more rows."""
    quick = chaos_rounds == 1
    verdict = trial(
        tmp_path,
        items=24 if quick else 60 * chaos_rounds,
        kills=chaos_rounds,
        seed=1,
        words=SETTINGS,
        startup_kills=0.0 if quick else 0.2,
        wait_for_agents=not quick,
    )
    assert verdict.good, asdict(verdict)
    assert verdict.kills >= 1
    assert verdict.seconds_to_first_commit or not quick
