"""Builders of furniture: chair, table, stool, sofa, bed, lamp."""

from __future__ import annotations

import math

from geco_core.shapes.palette import Dice
from geco_core.shapes.parts import Blueprint, a, ball, box, capsule, cone, cylinder, frustum


def _four_legs(made: Blueprint, color: str, x: float, y: float, top: float, thick: float) -> None:
    """Square legs of half thickness `thick` from z = 0 to `top` at (+-x, +-y)."""
    for sx in (-1.0, 1.0):
        for sy in (-1.0, 1.0):
            made.add(color, box((sx * x, sy * y, 0.5 * top), (thick, thick, 0.5 * top)))


def build_chair(dice: Dice) -> Blueprint:
    """A seat, four legs and a back at -x; the sitter looks along +x."""
    color, legs = dice.color(), dice.color()
    x, y = dice.between(0.45, 0.58), dice.between(0.45, 0.6)
    seat_z, thick = dice.between(0.7, 0.95), dice.between(0.1, 0.13)
    back = dice.between(0.75, 1.05)
    made = Blueprint(a(f"{color} chair with {legs} legs"))
    made.add(color, box((0, 0, seat_z), (x, y, 0.11), rounding=0.04))
    made.add(color, box((-x + 0.1, 0, seat_z + 0.5 * back), (0.1, y, 0.5 * back), rounding=0.04))
    _four_legs(made, legs, x - thick, y - thick, seat_z - 0.05, thick)
    if dice.chance(0.3):
        for sy in (-1.0, 1.0):
            rail = sy * (y - 0.06)
            made.add(legs, box((0.05, rail, seat_z + 0.4), (x - 0.05, 0.1, 0.09)))
            made.add(legs, box((x - 0.14, rail, seat_z + 0.2), (0.09, 0.1, 0.2)))
    return made


def build_table(dice: Dice) -> Blueprint:
    """A flat top, square on four legs or round on one column."""
    color, legs = dice.color(), dice.color()
    height, thick = dice.between(0.85, 1.15), dice.between(0.11, 0.15)
    made = Blueprint(a(f"{color} table with {legs} legs"))
    if dice.chance(0.65):
        x, y = dice.between(0.65, 0.9), dice.between(0.85, 1.1)
        made.add(color, box((0, 0, height), (x, y, 0.11), rounding=dice.choice((0.0, 0.06))))
        _four_legs(made, legs, x - thick - 0.04, y - thick - 0.04, height - 0.05, thick)
        return made
    made.caption = a(f"round {color} table with {a(legs)} foot")
    made.add(color, cylinder((0, 0, height), dice.between(0.85, 1.05), 0.22))
    made.add(legs, cylinder((0, 0, 0.5 * height), 1.3 * thick, height - 0.1))
    made.add(legs, frustum((0, 0, 0.08), 0.5, 0.42, 0.18))
    return made


def build_stool(dice: Dice) -> Blueprint:
    """A round seat on three or four splayed round legs, sometimes with a foot ring."""
    color, legs = dice.color(), dice.color()
    seat, height, count = dice.between(0.48, 0.6), dice.between(1.1, 1.45), dice.choice((3, 4))
    spread = seat + dice.between(0.05, 0.2)
    made = Blueprint(a(f"{color} stool with {count_word(count)} {legs} legs"))
    made.add(color, cylinder((0, 0, height), seat, 0.26))
    for k in range(count):
        angle = math.pi / 4 + 2.0 * math.pi * k / count
        c, s = math.cos(angle), math.sin(angle)
        foot, top = (spread * c, spread * s, 0.1), (0.62 * seat * c, 0.62 * seat * s, height)
        made.add(legs, capsule(foot, top, 0.1))
    return made


def build_sofa(dice: Dice) -> Blueprint:
    """A wide seat with back, arms and two cushions of another colour."""
    color, cushion = dice.color(), dice.color()
    y, x, arm = dice.between(0.9, 1.15), dice.between(0.45, 0.55), dice.between(0.14, 0.2)
    back = dice.between(0.4, 0.52)
    made = Blueprint(a(f"{color} sofa with {cushion} cushions"))
    made.add(color, box((0, 0, 0.25), (x, y, 0.2), rounding=0.05))
    made.add(color, box((-x + 0.16, 0, 0.1 + back), (0.17, y, back), rounding=0.07))
    for sy in (-1.0, 1.0):
        made.add(color, box((0, sy * (y - 0.4 * arm), 0.4), (x + 0.03, arm, 0.34), rounding=0.08))
        centre = (0.13, sy * (0.5 * y - 0.3 * arm), 0.52)
        made.add(cushion, box(centre, (x - 0.13, 0.5 * y - 0.45 * arm, 0.12), rounding=0.06))
    return made


def build_bed(dice: Dice) -> Blueprint:
    """A bed whose foot end faces +x: frame, mattress, pillow, head board at -x."""
    frame_color, sheet = dice.color(), dice.color()
    pillow = dice.color("white", "yellow", "pink", "cyan")
    x, y = dice.between(0.95, 1.15), dice.between(0.6, 0.8)
    head = dice.between(0.38, 0.52)
    made = Blueprint(a(f"{frame_color} bed with {a(sheet)} blanket") + f" and {a(pillow)} pillow")
    made.add(frame_color, box((0, 0, 0.3), (x, y, 0.12)))
    made.add(frame_color, box((-x + 0.02, 0, head), (0.12, y + 0.05, head), rounding=0.04))
    made.add(frame_color, box((x - 0.02, 0, 0.26), (0.12, y + 0.05, 0.26), rounding=0.04))
    made.add(sheet, box((0.03, 0, 0.5), (x - 0.09, y - 0.05, 0.15), rounding=0.07))
    made.add(pillow, box((-x + 0.42, 0, 0.68), (0.2, 0.66 * y, 0.12), rounding=0.09))
    return made


def build_lamp(dice: Dice) -> Blueprint:
    """A table lamp: round foot, column, conical shade with a bulb below."""
    shade, stand = dice.color(), dice.color()
    height = dice.between(1.1, 1.5)
    bottom, top = dice.between(0.6, 0.8), dice.between(0.28, 0.42)
    made = Blueprint(a(f"{stand} lamp with {a(shade)} shade"))
    foot = dice.between(0.42, 0.55)
    if dice.chance(0.5):
        made.add(stand, frustum((0, 0, 0.09), foot, foot - 0.1, 0.2))
    else:
        made.add(stand, ball((0, 0, 0.32), 0.36), cylinder((0, 0, 0.05), 0.36, 0.14))
    made.add(stand, cylinder((0, 0, 0.5 * height), 0.11, height))
    made.add(shade, frustum((0, 0, height + 0.2), bottom, top, dice.between(0.65, 0.8)))
    made.add(stand, cone((0, 0, height + 0.66), 0.13, 0.2))
    return made


def count_word(count: int) -> str:
    """Small numbers in words."""
    return {2: "two", 3: "three", 4: "four"}[count]
