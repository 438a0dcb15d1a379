"""Pictures of a report as inline SVG: curves, the graph of the steps, intervals.

Everything is drawn from numbers; the only texts are names of ours and are escaped. Colours are CSS
variables of the page, so that the pictures follow its light and dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 26
_LOG_RATIO = 30.0
Place = Callable[[float, float], tuple[float, float]]
SMOOTHING_SHARE = 0.05


@dataclass(frozen=True)
class Curve:
    """One number over the steps of a training."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]


def curve_chart(curve: Curve, last_step: int) -> Markup:
    """A chart of a curve: thin as reported, thick smoothed.

    Values that are all positive and span more than a factor of 30 get a logarithmic axis.

    Args:
        curve: finite values are drawn, others left out.
        last_step: end of the horizontal axis.
    """
    points = [(s, v) for s, v in zip(curve.steps, curve.values, strict=True) if math.isfinite(v)]
    if not points:
        return Markup("")
    values = [v for _, v in points]
    log = min(values) > 0 and max(values) / min(values) > _LOG_RATIO
    scaled = [math.log10(v) if log else v for v in values]
    low, high = _padded(min(scaled), max(scaled))
    span = max(1, last_step)

    def place(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * step / span
        y = _TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)
        return x, y

    parts = [*_horizontal(low, high, log, place), *_vertical(span, place)]
    raw = [place(s, v) for (s, _), v in zip(points, scaled, strict=True)]
    smooth = [place(s, v) for (s, _), v in zip(points, smoothed(scaled), strict=True)]
    parts.append(_line(raw, "raw"))
    parts.append(_line(smooth, "smooth"))
    x, y = smooth[-1]
    parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    label = f"{curve.name}: {short(values[0])} at first, {short(values[-1])} at last"
    return _svg(parts, WIDTH, HEIGHT, "chart", label)


def smoothed(values: Sequence[float]) -> list[float]:
    """Running mean over a window that is centred and grows with the length of the curve."""
    half = max(1, round(len(values) * SMOOTHING_SHARE))
    found: list[float] = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        window = values[i - reach : i + reach + 1]
        found.append(sum(window) / len(window))
    return found


def ticks(low: float, high: float, at_least: int = 3) -> list[float]:
    """Round numbers within [low, high]: the coarsest that are `at_least` so many."""
    power = math.floor(math.log10(high - low)) + 1
    while True:
        for digit in (5, 2, 1):
            step = digit * 10.0**power
            first = math.ceil(low / step - 1e-9)
            marks = [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]
            if len(marks) >= at_least:
                return marks
        power -= 1


def tick_texts(marks: Sequence[float]) -> list[str]:
    """Marks as texts, with as many digits as tell them apart."""
    texts = [short(mark) for mark in marks]
    for digits in range(3, 9):
        if len(set(texts)) == len(marks):
            break
        texts = [f"{mark:.{digits}g}" for mark in marks]
    return texts


def short(value: float) -> str:
    """A number for an axis or a label: `0.012`, `3.4`, `1,250`, `2e-06`."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size < 1e-3:
        return f"{value:.0e}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class Box:
    """A step in the picture of the graph; `kind` is a CSS class of its state."""

    name: str
    needs: Sequence[str]
    kind: str
    state: str
    detail: str


_BOX_W, _BOX_H, _GAP_X, _GAP_Y = 172, 62, 40, 22


def graph_chart(boxes: Sequence[Box]) -> Markup:
    """The graph from left to right: a column per depth, arrows from a step to those that need it.

    An arrow that another path implies is left out.

    Args:
        boxes: every step after what it needs.
    """
    if not boxes:
        return Markup("")
    by_name = {box.name: box for box in boxes}
    depth: dict[str, int] = {}
    for box in boxes:
        depth[box.name] = 1 + max((depth[n] for n in box.needs if n in depth), default=-1)
    columns = [
        [b.name for b in boxes if depth[b.name] == d] for d in range(max(depth.values()) + 1)
    ]
    rows = max(len(column) for column in columns)
    height = rows * (_BOX_H + _GAP_Y) - _GAP_Y
    places: dict[str, tuple[float, float]] = {}
    for d, column in enumerate(columns):
        top = (height - len(column) * (_BOX_H + _GAP_Y) + _GAP_Y) / 2
        for row, name in enumerate(column):
            places[name] = (d * (_BOX_W + _GAP_X) + 1, top + row * (_BOX_H + _GAP_Y) + 1)
    parts = [
        _arrow(places[need], places[box.name])
        for box in boxes
        for need in box.needs
        if need in places and not _implied(by_name, box, need)
    ]
    parts += [_box(box, places[box.name]) for box in boxes]
    width = len(columns) * (_BOX_W + _GAP_X) - _GAP_X + 2
    label = "; ".join(f"{box.name}: {box.state}" for box in boxes)
    return _svg(parts, width, height + 2, "graph", label)


def interval_chart(
    rows: Sequence[tuple[str, float, float, float]], *, higher_is_better: bool
) -> Markup:
    """Means and intervals of several variants around zero.

    Args:
        rows: name, mean, low, high of each.
        higher_is_better: decides which side of zero is the good one.
    """
    if not rows:
        return Markup("")
    width, step, left = 420, 26, 96
    height = step * len(rows) + 22
    reach = max(max(abs(low), abs(high), abs(mean)) for _, mean, low, high in rows) or 1.0

    def x(value: float) -> float:
        return left + (width - left - 14) * (value / (reach * 1.1) + 1) / 2

    parts = [f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="2" y2="{height - 20}"/>']
    for i, (name, mean, low, high) in enumerate(rows):
        y = step * i + step / 2 + 2
        good = low > 0 if higher_is_better else high < 0
        bad = high < 0 if higher_is_better else low > 0
        kind = "better" if good else "worse" if bad else "same"
        parts += [
            f'<text class="label" x="{left - 10}" y="{y + 4:.1f}">{escape(name)}</text>',
            (
                f'<line class="span {kind}" x1="{x(low):.1f}" x2="{x(high):.1f}" '
                f'y1="{y:.1f}" y2="{y:.1f}"/>'
            ),
            f'<circle class="mean {kind}" cx="{x(mean):.1f}" cy="{y:.1f}" r="4"/>',
        ]
    for value in (-reach, 0.0, reach):
        text = short(value) if value <= 0 else f"+{short(value)}"
        parts.append(f'<text class="tick" x="{x(value):.1f}" y="{height - 5}">{text}</text>')
    label = "; ".join(f"{name} {mean:+.3g} ({low:+.3g} to {high:+.3g})"
                      for name, mean, low, high in rows)  # fmt: skip
    return _svg(parts, width, height, "intervals", label)


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = (high - low) * 0.06 or max(abs(high) * 0.1, 1e-9)
    return low - pad, high + pad


def _horizontal(low: float, high: float, log: bool, place: Place) -> list[str]:
    parts: list[str] = []
    marks = ticks(low, high)
    if log:
        whole = [float(n) for n in range(math.ceil(low), math.floor(high) + 1)]
        marks = whole if len(whole) >= 2 else marks
    texts = tick_texts([10**mark if log else mark for mark in marks])
    for mark, text in zip(marks, texts, strict=True):
        _, y = place(0, mark)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" '
                     f'y1="{y:.1f}" y2="{y:.1f}"/>')  # fmt: skip
        parts.append(f'<text class="tick y" x="{_LEFT - 7}" y="{y + 4:.1f}">{text}</text>')
    return parts


def _vertical(span: int, place: Place) -> list[str]:
    parts: list[str] = []
    for mark in ticks(0, span):
        if mark != int(mark):
            continue
        x, _ = place(mark, 0)
        parts.append(f'<text class="tick x" x="{x:.1f}" y="{HEIGHT - 7}">{int(mark):,}</text>')
    return parts


def _line(points: Sequence[tuple[float, float]], kind: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def _implied(by_name: dict[str, Box], box: Box, need: str) -> bool:
    """Whether another step that `box` needs leads to `need` too."""
    return any(_reaches(by_name, other, need) for other in box.needs if other != need)


def _reaches(by_name: dict[str, Box], name: str, target: str) -> bool:
    box = by_name.get(name)
    if box is None:
        return False
    return target in box.needs or any(_reaches(by_name, n, target) for n in box.needs)


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + _BOX_W, start[1] + _BOX_H / 2
    x2, y2 = end[0], end[1] + _BOX_H / 2
    bend = (x1 + x2) / 2
    head = f"M{x2 - 7:.1f} {y2 - 4:.1f} L{x2:.1f} {y2:.1f} L{x2 - 7:.1f} {y2 + 4:.1f}"
    return (
        f'<path class="edge" d="M{x1:.1f} {y1:.1f} C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} '
        f'{x2:.1f} {y2:.1f} {head}"/>'
    )


def _box(box: Box, place: tuple[float, float]) -> str:
    x, y = place
    return (
        f'<g class="step {escape(box.kind)}">'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{_BOX_W}" height="{_BOX_H}" rx="10"/>'
        f'<circle cx="{x + 17:.1f}" cy="{y + 20:.1f}" r="5"/>'
        f'<text class="name" x="{x + 29:.1f}" y="{y + 25:.1f}">{escape(box.name)}</text>'
        f'<text class="about" x="{x + 12:.1f}" y="{y + 46:.1f}">{escape(box.detail)}</text></g>'
    )


def _svg(parts: Sequence[str], width: float, height: float, kind: str, label: str) -> Markup:
    body = "".join(parts)
    return Markup(  # noqa: S704 - numbers, and texts that are escaped above
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}">{body}</svg>'
    )
