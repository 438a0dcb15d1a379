"""The ablation table as text."""

from __future__ import annotations

import pytest

from geco_core.evaluate.distilled import METRICS
from workflows.distill_evaluate import HEADINGS, HIGHER_IS_BETTER, heading, markdown_table


def test_a_table_has_means_intervals_and_gaps_where_nothing_was_measured() -> None:
    psnr = {"mean": 12.3, "low": 11.9, "high": 12.8}
    summary = {
        "teacher": {"view_psnr": psnr, "network_evaluations": {"mean": 150.0}},
        "stage1": {"view_psnr": {"mean": 13.0}},
    }
    assert markdown_table(summary).splitlines() == [
        "| variant | views PSNR dB ↑ | network evaluations |",
        "|---|---|---|",
        "| teacher | 12.30 (11.90 to 12.80) | 150 |",
        "| stage1 | 13.00 |  |",
    ]


@pytest.mark.parametrize("name", HEADINGS)
def test_only_metrics_have_a_better_direction(name: str) -> None:
    arrow = {True: "↑", False: "↓"}[name in HIGHER_IS_BETTER] if name in METRICS else ""
    assert heading(name) == f"{HEADINGS[name]} {arrow}".strip()
