"""Curves, graph and intervals as SVG: what is drawn is where it belongs."""

from __future__ import annotations

import itertools
import math
import re

import pytest

from workflows.distill_report.charts import (
    HEIGHT,
    WIDTH,
    Box,
    Curve,
    curve_chart,
    graph_chart,
    interval_chart,
    short,
    smoothed,
    tick_texts,
    ticks,
)


def points(svg: str, kind: str) -> list[tuple[float, float]]:
    found = re.search(rf'class="{kind}" points="([^"]*)"', svg)
    assert found
    return [(float(x), float(y)) for x, y in (p.split(",") for p in found[1].split())]


def test_a_curve_stays_inside_and_falls_where_the_values_fall() -> None:
    svg = curve_chart(Curve("loss", range(1, 101), [3 - 0.02 * i for i in range(100)]), 200)
    for kind in ("raw", "smooth"):
        drawn = points(svg, kind)
        assert len(drawn) == 100
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in drawn)
        assert all(a[1] < b[1] for a, b in itertools.pairwise(drawn)), "down is larger y"
    assert points(svg, "raw")[-1][0] == pytest.approx((52 + WIDTH - 12) / 2, abs=1)


def test_a_wide_range_is_drawn_on_a_logarithmic_axis() -> None:
    values = [10.0**-n for n in range(6)]
    heights = [y for _, y in points(curve_chart(Curve("x", range(6), values), 5), "raw")]
    steps = [b - a for a, b in itertools.pairwise(heights)]
    assert max(steps) - min(steps) < 0.3, "equal factors, equal distances"


def test_what_is_no_number_is_left_out() -> None:
    svg = curve_chart(Curve("x", [1, 2, 3], [1.0, math.nan, 2.0]), 3)
    assert len(points(svg, "raw")) == 2
    assert curve_chart(Curve("x", [1], [math.inf]), 3) == ""
    assert "polyline" in curve_chart(Curve("x", [1], [0.0]), 1), "one constant value has an axis"


def test_smoothing_keeps_ends_and_straight_lines() -> None:
    assert smoothed([1.0, 2.0, 3.0, 4.0]) == pytest.approx([1, 2, 3, 4])
    assert smoothed([0.0, 3.0, 0.0])[1] == pytest.approx(1)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 8), (1e-9, 2e-9), (0, 5000), (1.41, 1.43)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert 3 <= len(marks) <= 11
    slack = 1e-6 * (high - low)
    assert all(low - slack <= mark <= high + slack for mark in marks)
    assert len(set(tick_texts(marks))) == len(marks)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1250, "1,250"), (0.25, "0.25"), (2e-6, "2e-06")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_the_graph_has_every_step_and_only_the_arrows_that_say_something() -> None:
    boxes = [
        Box("a", (), "done", "done", ""),
        Box("b", ("a",), "failed", "failed", "<oops>"),
        Box("c", ("a",), "waiting", "not done", ""),
        Box("d", ("a", "b", "c"), "waiting", "not done", ""),
    ]
    svg = graph_chart(boxes)
    assert svg.count('class="edge"') == 4, "a -> d is implied"
    assert svg.count("<rect") == 4
    assert "&lt;oops&gt;" in svg
    assert "<oops>" not in svg


def test_intervals_are_coloured_by_what_is_better() -> None:
    rows = [("up", 1.0, 0.5, 1.5), ("down", -1.0, -1.5, -0.5), ("same", 0.1, -0.2, 0.3)]
    svg = interval_chart(rows, higher_is_better=True)
    assert re.findall(r'class="mean (\w+)"', svg) == ["better", "worse", "same"]
    svg = interval_chart(rows, higher_is_better=False)
    assert re.findall(r'class="mean (\w+)"', svg) == ["worse", "better", "same"]
