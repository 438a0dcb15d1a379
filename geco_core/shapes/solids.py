"""Builders of the plain solids: cube, ball, cylinder, cone, torus, capsule."""

from __future__ import annotations

import math

from geco_core.shapes.palette import Dice
from geco_core.shapes.parts import (
    Blueprint,
    a,
    ball,
    box,
    capsule,
    cone,
    cylinder,
    frustum,
    torus,
)


def build_cube(dice: Dice) -> Blueprint:
    """A nearly equal-sided box, sharp or rounded, sometimes with a band around it."""
    color = dice.color()
    x, y, z = (dice.between(0.85, 1.1) for _ in range(3))
    rounding = dice.choice((0.0, 0.12, 0.25))
    made = Blueprint(a(f"{color} cube"))
    made.add(color, box((0, 0, 0), (x, y, z), rounding=rounding))
    if dice.chance(0.4):
        band = dice.color()
        height = dice.between(0.16, 0.3)
        made.add(band, box((0, 0, 0), (x + 0.05, y + 0.05, height), rounding=0.5 * rounding))
        made.caption += f" with {a(band)} band"
    return made


def build_ball(dice: Dice) -> Blueprint:
    """A sphere, sometimes with a stripe."""
    color = dice.color()
    made = Blueprint(a(f"{color} ball"))
    made.add(color, ball((0, 0, 0), 1.0))
    if dice.chance(0.4):
        band = dice.color()
        made.add(band, cylinder((0, 0, 0), 1.03, dice.between(0.3, 0.5)))
        made.caption += f" with {a(band)} stripe"
    return made


def build_cylinder(dice: Dice) -> Blueprint:
    """An upright cylinder, sometimes with a lid."""
    color = dice.color()
    radius, height = dice.between(0.45, 0.8), dice.between(1.4, 2.0)
    made = Blueprint(a(f"{color} cylinder"))
    made.add(color, cylinder((0, 0, 0), radius, height))
    if dice.chance(0.4):
        lid = dice.color()
        thick = dice.between(0.2, 0.35)
        made.add(lid, cylinder((0, 0, 0.5 * height + 0.4 * thick), radius + 0.08, thick))
        made.caption += f" with {a(lid)} lid"
    return made


def build_cone(dice: Dice) -> Blueprint:
    """An upright cone, sometimes with a foot plate."""
    color = dice.color()
    radius, height = dice.between(0.6, 0.95), dice.between(1.5, 2.0)
    made = Blueprint(a(f"{color} cone"))
    made.add(color, cone((0, 0, 0), radius, height))
    if dice.chance(0.4):
        base = dice.color()
        side, thick = radius + 0.12, dice.between(0.1, 0.15)
        made.add(base, box((0, 0, -0.5 * height), (side, side, thick)))
        made.caption += f" on {a(base)} base"
    return made


def build_torus(dice: Dice) -> Blueprint:
    """A ring that faces the front or leans back, in one or two colours."""
    color = dice.color()
    lean = math.radians(dice.between(0.0, 55.0))
    axis = (math.cos(lean), 0.0, math.sin(lean))
    ring = 1.0
    tube = dice.between(0.22, 0.4)
    made = Blueprint(a(f"{color} torus"))
    made.add(color, torus((0, 0, 0), ring, tube, axis=axis))
    if dice.chance(0.35):
        stripe = dice.color()
        made.add(stripe, cylinder((0, ring, 0), tube + 0.05, 0.34, axis=(-axis[2], 0.0, axis[0])))
        made.add(stripe, cylinder((0, -ring, 0), tube + 0.05, 0.34, axis=(-axis[2], 0.0, axis[0])))
        made.caption += f" with {stripe} rings"
    return made


def build_capsule(dice: Dice) -> Blueprint:
    """A pill, upright or lying across, whose second half may differ in colour."""
    color, other = dice.color(), dice.color()
    radius, length = dice.between(0.38, 0.55), dice.between(0.5, 0.9)
    upright = dice.chance(0.6)
    start = (0.0, 0.0, -length) if upright else (0.0, -length, 0.0)
    end = (0.0, 0.0, length) if upright else (0.0, length, 0.0)
    made = Blueprint(a(f"{color} capsule"))
    made.add(color, capsule(start, end, radius))
    if dice.chance(0.5):
        made.caption = a(f"{color} and {other} capsule")
        made.add(other, capsule((0.0, 0.0, 0.0), end, radius + 0.03))
        flat = (0.0, 0.0, 0.02) if upright else (0.0, 0.02, 0.0)
        axis = (0.0, 0.0, 1.0) if upright else (0.0, 1.0, 0.0)
        # The sleeve squares off the hidden inner dome of the second half.
        sleeve = frustum(flat, radius + 0.03, radius + 0.03, 0.08, axis=axis)
        made.solids.append(sleeve)
        made.colors.append(other)
    return made
