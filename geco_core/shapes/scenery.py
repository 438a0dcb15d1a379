"""Builders of plants and buildings: tree, mushroom, cactus, house, castle tower."""

from __future__ import annotations

import math

from geco_core.shapes.palette import Dice
from geco_core.shapes.parts import (
    Blueprint,
    X,
    a,
    ball,
    box,
    capsule,
    cone,
    cylinder,
    ellipsoid,
    frustum,
    prism,
    turn_about,
)


def build_tree(dice: Dice) -> Blueprint:
    """A trunk under a round crown or under stacked cones."""
    crown = dice.color("green", "green", "orange", "yellow", "red", "pink", "cyan")
    trunk = dice.color("brown", "brown", "black", "gray", "white")
    stem = dice.between(0.5, 0.8)
    made = Blueprint(a(f"{crown} tree with {a(trunk)} trunk"))
    made.add(trunk, frustum((0, 0, 0.5 * stem), 0.2, 0.15, stem + 0.2))
    if dice.chance(0.5):
        made.caption = a(f"{crown} fir tree with {a(trunk)} trunk")
        wide, tiers = dice.between(0.62, 0.75), dice.choice((2, 3))
        for k in range(tiers):
            radius = wide * (1.0 - 0.24 * k)
            made.add(crown, cone((0, 0, stem + 0.35 + 0.42 * k), radius, 0.8))
        return made
    wide = dice.between(0.55, 0.68)
    made.add(crown, ball((0, 0, stem + 0.8 * wide), wide))
    for _ in range(dice.choice((0, 2, 3))):
        angle, out = dice.between(0.0, 2.0 * math.pi), 0.55 * wide
        centre = (
            out * math.cos(angle),
            out * math.sin(angle),
            stem + dice.between(0.5, 1.2) * wide,
        )
        made.add(crown, ball(centre, 0.62 * wide))
    return made


def build_mushroom(dice: Dice) -> Blueprint:
    """A stem and a flat dome, sometimes with dots."""
    cap, stem = dice.color(), dice.color("white", "yellow", "brown", "gray")
    height, thick = dice.between(0.95, 1.25), dice.between(0.22, 0.3)
    wide, dome = dice.between(0.72, 0.92), dice.between(0.34, 0.5)
    made = Blueprint(a(f"{cap} mushroom with {a(stem)} stem"))
    made.add(stem, frustum((0, 0, 0.5 * height), 1.2 * thick, thick, height))
    made.add(cap, ellipsoid((0, 0, height), (wide, wide, dome)))
    if dice.chance(0.6):
        dots = dice.color("white", "yellow", "black")
        turn = dice.between(-0.3, 0.3)
        for k in range(5):
            angle, lift = turn + 2.0 * math.pi * k / 5.0, math.radians(38.0)
            flat = wide * math.cos(lift)
            centre = (
                flat * math.cos(angle),
                flat * math.sin(angle),
                height + dome * math.sin(lift),
            )
            made.add(dots, ball(centre, 0.15))
        made.add(dots, ball((0, 0, height + dome - 0.06), 0.15))
        made.caption += f" and {dots} dots"
    return made


def build_cactus(dice: Dice) -> Blueprint:
    """A cactus in a pot: column, one or two bent arms to the sides, a flower."""
    plant = dice.color("green", "green", "cyan", "yellow")
    pot, flower = dice.color(), dice.color("pink", "red", "yellow", "white", "purple")
    height, thick = dice.between(1.1, 1.45), dice.between(0.22, 0.28)
    made = Blueprint(a(f"{plant} cactus in {a(pot)} pot with {a(flower)} flower"))
    made.add(pot, frustum((0, 0, 0.22), 0.36, 0.5, 0.5))
    made.add(pot, cylinder((0, 0, 0.47), 0.56, 0.16))
    made.add(plant, capsule((0, 0, 0.4), (0, 0, 0.3 + height), thick))
    made.add(flower, ball((0, 0, 0.3 + height + thick), 0.16))
    sides = dice.choice(((1.0,), (-1.0,), (1.0, -1.0), (1.0, -1.0)))
    for sy in sides:
        low = dice.between(0.4, 0.65) * height + 0.25
        out, up = dice.between(0.5, 0.6), dice.between(0.32, 0.5)
        made.add(plant, capsule((0, 0, low), (0, sy * out, low), 0.14))
        made.add(plant, capsule((0, sy * out, low), (0, sy * out, low + up), 0.14))
    return made


def build_house(dice: Dice) -> Blueprint:
    """Walls, a gable or pyramid-like roof, door and windows on +x, sometimes a chimney."""
    wall, roof = dice.color(), dice.color()
    door = dice.color("brown", "red", "blue", "black", "green", "white")
    x, y, z = dice.between(0.55, 0.72), dice.between(0.65, 0.82), dice.between(0.42, 0.52)
    rise = dice.between(0.55, 0.75)
    made = Blueprint(a(f"{wall} house with {a(roof)} roof and {a(door)} door"))
    made.add(wall, box((0, 0, z), (x, y, z)))
    gable = [(-y - 0.2, 0.0), (y + 0.2, 0.0), (0.0, rise)]
    style = dice.choice(("front", "side", "cone"))
    if style == "front":
        made.add(roof, prism((0, 0, 2.0 * z - 0.02), gable, 2.0 * x + 0.24, plane="yz"))
    elif style == "side":
        ridge = [(-x - 0.2, 0.0), (x + 0.2, 0.0), (0.0, rise)]
        made.add(roof, prism((0, 0, 2.0 * z - 0.02), ridge, 2.0 * y + 0.24, plane="xz"))
    else:
        made.add(roof, cone((0, 0, 2.0 * z + 0.5 * rise - 0.02), math.hypot(x, y) + 0.1, rise))
    made.add(door, box((x, 0, 0.3), (0.06, 0.16, 0.3)))
    pane = dice.color("cyan", "yellow", "white", "blue")
    for sy in (-1.0, 1.0):
        made.add(pane, box((x, sy * 0.62 * y, 1.15 * z), (0.05, 0.13, 0.14)))
        made.add(pane, box((0, sy * y, 1.1 * z), (0.18, 0.05, 0.15)))
    if style != "cone" and dice.chance(0.5):
        made.add("gray", box((-0.3 * x, 0.45 * y, 2.0 * z + 0.55 * rise), (0.13, 0.13, 0.36)))
    return made


def build_castle_tower(dice: Dice) -> Blueprint:
    """A round or square tower with battlements or a pointed roof, door and window on +x."""
    wall, trim = dice.color(), dice.color()
    radius, height = dice.between(0.45, 0.55), dice.between(1.2, 1.5)
    made = Blueprint(a(f"{wall} castle tower with {trim} battlements"))
    crown = radius + 0.14
    made.add(wall, frustum((0, 0, 0.5 * height), radius + 0.08, radius, height))
    made.add(wall, cylinder((0, 0, height + 0.08), crown, 0.24))
    if dice.chance(0.6):
        for k in range(6):
            angle = math.pi / 6.0 + math.pi / 3.0 * k
            turn = turn_about("z", math.degrees(angle))
            centre = (0.82 * crown * math.cos(angle), 0.82 * crown * math.sin(angle), height + 0.3)
            made.add(trim, box(centre, (0.13, 0.17, 0.17), turn=turn))
    else:
        made.caption = a(f"{wall} castle tower with {a(trim)} pointed roof")
        made.add(trim, cone((0, 0, height + 0.55), crown + 0.06, 0.75))
    door = dice.color("brown", "black", "red")
    made.add(door, box((radius + 0.02, 0, 0.26), (0.1, 0.17, 0.26)))
    made.add(door, cylinder((radius + 0.02, 0, 0.52), 0.17, 0.2, axis=X))
    made.add("black", box((radius, 0, 0.75 * height), (0.07, 0.09, 0.15)))
    return made
