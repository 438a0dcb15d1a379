"""The claims table: verdicts follow the numbers."""

from __future__ import annotations

from benchmarks.claims_geco import (
    BOTH,
    CLAIMS,
    SINGLE,
    STAGE1,
    TEACHER,
    shipped_variants,
    table,
    verdicts,
)
from geco_core.evaluate.distilled import METRICS, Row, summarise_variants

GOOD = {
    TEACHER: (21.0, 0.05, 0.82, 0.044, 21.5, 300.0),
    SINGLE: (14.7, 0.23, 0.45, 0.140, 13.9, 4.0),
    STAGE1: (22.0, 0.04, 0.83, 0.043, 22.0, 2.0),
    BOTH: (22.0, 0.04, 0.84, 0.042, 22.5, 2.0),
}
SECONDS = {TEACHER: 4.0, SINGLE: 0.06, STAGE1: 0.03, BOTH: 0.03}


def rows(values: dict[str, tuple[float, ...]]) -> list[Row]:
    return [
        {"variant": name, "seed": seed, "object": i, "class_name": "cube", "multiview_s": 1.0}
        | {m: v + 0.001 * i for m, v in zip(METRICS, numbers, strict=False)}
        | {"network_evaluations": numbers[5]}
        for name, numbers in values.items()
        for seed in (0, 1)
        for i in range(4)
    ]


def held(values: dict[str, tuple[float, ...]], seconds: dict[str, float] = SECONDS) -> list[str]:
    summary = summarise_variants(rows(values), against=TEACHER)
    return [claim for claim, holds, _ in verdicts(summary, seconds) if holds]


def test_all_claims_hold_on_numbers_that_show_them() -> None:
    assert held(GOOD) == list(CLAIMS)


def test_a_claim_falls_with_its_numbers() -> None:
    assert CLAIMS[0] not in held(GOOD, {**SECONDS, BOTH: 0.3})
    assert CLAIMS[1] not in held({**GOOD, SINGLE: (21.5, 0.05, 0.82, 0.043, 21.5, 4.0)})
    worse = {**GOOD, BOTH: (22.0, 0.04, 0.82, 0.044, 22.5, 2.0)}
    assert CLAIMS[2] not in held(worse)  # better renders of a worse shape
    assert CLAIMS[3] not in held({**GOOD, BOTH: (20.0, 0.06, 0.80, 0.050, 21.0, 2.0)})


def test_the_table_says_what_does_not_hold() -> None:
    summary = summarise_variants(rows(GOOD), against=TEACHER)
    text = table(summary, SECONDS, 4, 2)
    assert text.count("holds |") == 4
    assert "does not hold" not in text
    assert "133x" in text
    slow = table(summary, {**SECONDS, BOTH: 1.0}, 4, 2)
    assert slow.count("**does not hold**") == 1


def test_the_shipped_chains_are_the_ones_compared() -> None:
    config, variants = shipped_variants()
    assert [v.name for v in variants] == [TEACHER, SINGLE, STAGE1, BOTH]
    assert [v.sampler.steps for v in variants] == [75, 1, 1, 1]
    assert variants[0].multiview is variants[1].multiview is not variants[2].multiview
    assert variants[2].reconstructor is variants[0].reconstructor is not variants[3].reconstructor
    assert config.multiview.noised_channels
