"""Builders of vehicles: car, truck, rocket, plane, boat."""

from __future__ import annotations

from geco_core.shapes.palette import Dice
from geco_core.shapes.parts import (
    Blueprint,
    X,
    Y,
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

SIDES = (-1.0, 1.0)


def _wheels(made: Blueprint, xs: tuple[float, ...], y: float, radius: float, hub: str) -> None:
    """Black wheels of width 0.22 with hub caps at (x, +-y), standing on z = 0."""
    for x in xs:
        for sy in SIDES:
            made.add("black", cylinder((x, sy * y, radius), radius, 0.24, axis=Y))
            made.add(hub, cylinder((x, sy * (y + 0.02), radius), 0.5 * radius, 0.26, axis=Y))


def build_car(dice: Dice) -> Blueprint:
    """A car driving along +x: body, cabin with sloped ends, four wheels, lights."""
    color = dice.color(
        "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white"
    )
    roof = dice.color("white", "cyan", "blue", "gray", "red", "yellow", "purple")
    x, y = dice.between(0.92, 1.1), dice.between(0.42, 0.52)
    radius, height = dice.between(0.24, 0.29), dice.between(0.19, 0.25)
    deck = radius + 0.06 + 2.0 * height
    made = Blueprint(a(f"{color} car with {a(roof)} roof"))
    made.add(color, box((0, 0, radius + 0.06 + height), (x, y, height), rounding=0.07))
    rear, front, tall = -0.72 * x, dice.between(0.3, 0.45) * x, dice.between(0.36, 0.46)
    outline = [(rear, 0.0), (front, 0.0), (front - 0.32, tall), (rear + 0.2, tall)]
    made.add(roof, prism((0, 0, deck - 0.05), outline, 2.0 * y - 0.14, plane="xz"))
    _wheels(made, (-0.58 * x, 0.58 * x), y, radius, "gray")
    for sy in SIDES:
        made.add("yellow", ball((x - 0.03, sy * 0.62 * y, deck - height), 0.11))
        made.add("red", box((-x, sy * 0.62 * y, deck - 0.9 * height), (0.05, 0.1, 0.09)))
    return made


def build_truck(dice: Dice) -> Blueprint:
    """A truck driving along +x: cab in front, cargo box behind, six wheels."""
    cab, cargo = dice.color(), dice.color()
    y, radius = dice.between(0.4, 0.48), dice.between(0.2, 0.24)
    long, tall = dice.between(0.58, 0.7), dice.between(0.42, 0.52)
    floor = radius + 0.1
    made = Blueprint(a(f"{cab} truck with {a(cargo)} cargo box"))
    made.add("gray", box((0.1, 0, floor), (long + 0.3, 0.8 * y, 0.1)))
    made.add(cargo, box((-0.28, 0, floor + 0.06 + tall), (long, y, tall)))
    front = long - 0.2
    made.add(cab, box((front + 0.27, 0, floor + 0.33), (0.27, 0.94 * y, 0.34), rounding=0.07))
    made.add("cyan", box((front + 0.53, 0, floor + 0.46), (0.05, 0.75 * y, 0.13)))
    for sy in SIDES:
        made.add("yellow", ball((front + 0.53, sy * 0.65 * y, floor + 0.14), 0.09))
    _wheels(made, (-0.68, -0.2, front + 0.24), y - 0.02, radius, "white")
    return made


def build_rocket(dice: Dice) -> Blueprint:
    """A rocket pointing up: hull, nose cone, fins, a window on +x, flame below."""
    color, trim = dice.color(), dice.color()
    radius, height = dice.between(0.32, 0.42), dice.between(1.1, 1.4)
    nose = dice.between(0.5, 0.75)
    made = Blueprint(a(f"{color} rocket with {trim} fins and nose"))
    made.add(color, cylinder((0, 0, 0.5 * height), radius, height))
    made.add(trim, cone((0, 0, height + 0.5 * nose), radius + 0.02, nose))
    out = radius + dice.between(0.3, 0.4)
    fin = [(0.1, 0.1), (out, -0.22), (out, 0.1), (radius - 0.02, 0.55), (0.1, 0.55)]
    mirrored = [(-x, z) for x, z in reversed(fin)]
    for outline in (fin, mirrored):
        made.add(trim, prism((0, 0, 0), outline, 0.2, plane="xz"))
        made.add(trim, prism((0, 0, 0), outline, 0.2, plane="yz"))
    window = dice.color("cyan", "yellow", "white", "blue")
    made.add(window, cylinder((radius - 0.03, 0, 0.7 * height), 0.17, 0.16, axis=X))
    if dice.chance(0.6):
        made.add("orange", cone((0, 0, -0.2), 0.24, 0.44, axis=(0.0, 0.0, -1.0)))
    else:
        made.add("gray", frustum((0, 0, -0.05), 0.26, 0.18, 0.2))
    return made


def build_plane(dice: Dice) -> Blueprint:
    """An aeroplane flying along +x: hull, swept wings, tail, cockpit, propeller or engines."""
    color, wings = dice.color(), dice.color()
    length, radius = dice.between(0.72, 0.85), dice.between(0.21, 0.26)
    span, sweep = dice.between(0.9, 1.05), dice.between(0.05, 0.4)
    made = Blueprint(a(f"{color} plane with {wings} wings"))
    made.add(color, capsule((-length, 0, 0), (length, 0, 0), radius))
    for sy in SIDES:
        wing = [(0.3, 0.0), (0.12 - sweep, sy * span), (-0.18 - sweep, sy * span), (-0.22, 0.0)]
        tail = [(0.16, 0.0), (-0.08, sy * 0.45), (-0.26, sy * 0.45), (-0.2, 0.0)]
        made.add(wings, prism((0.08, 0, -0.02), wing[:: int(sy)], 0.22, plane="xy"))
        made.add(wings, prism((-length, 0, 0.06), tail[:: int(sy)], 0.2, plane="xy"))
    fin = [(0.25, 0.0), (-0.22, 0.0), (-0.28, 0.52), (-0.08, 0.52)]
    made.add(wings, prism((-length, 0, 0.08), fin[::-1], 0.21, plane="xz"))
    made.add("cyan", ellipsoid((0.58 * length, 0, 0.14), (0.28, 0.16, 0.18)))
    if dice.chance(0.5):
        made.add("black", cylinder((length + radius, 0, 0), 0.09, 0.16, axis=X))
        made.add("black", box((length + radius + 0.06, 0, 0), (0.08, 0.44, 0.1)))
    else:
        for sy in SIDES:
            centre = (0.1 - 0.3 * sweep, sy * 0.45 * span, -0.14)
            made.add("gray", cylinder(centre, 0.15, 0.42, axis=X))
    return made


def build_boat(dice: Dice) -> Blueprint:
    """A sailing boat heading along +x: hull with a bow, mast, one or two sails."""
    hull, sail = dice.color(), dice.color()
    y, deep = dice.between(0.34, 0.42), dice.between(0.34, 0.42)
    mast = dice.between(1.25, 1.5)
    made = Blueprint(a(f"{hull} boat with {a(sail)} sail"))
    outline = [(-0.8, -y), (0.25, -y), (0.95, 0.0), (0.25, y), (-0.8, y)]
    made.add(hull, prism((0, 0, 0.0), outline, deep, plane="xy"))
    keel = [(x * 0.82, yy * 0.7) for x, yy in outline]
    made.add(hull, prism((0, 0, -0.5 * deep), keel, 0.24, plane="xy"))
    deck = [(x * 0.9, yy * 0.82) for x, yy in outline]
    made.add("brown", prism((0, 0, 0.5 * deep), deck, 0.08, plane="xy"))
    made.add("brown", cylinder((0.12, 0, 0.5 * mast), 0.1, mast))
    # Sails swing out to one side, so that the front view shows them too.
    swing = turn_about("z", dice.choice((-1.0, 1.0)) * dice.between(30.0, 50.0))
    main = [(0.06, 0.0), (0.06, mast - 0.5), (-0.78, 0.0)]
    made.add(sail, prism((0.12, 0, 0.42), main, 0.2, plane="xz", turn=swing))
    if dice.chance(0.5):
        jib = [(-0.06, 0.0), (0.58, 0.0), (-0.06, mast - 0.7)]
        made.add(sail, prism((0.12, 0, 0.45), jib, 0.2, plane="xz", turn=swing))
    if dice.chance(0.4):
        flag = dice.color()
        outline = [(0.0, -0.13), (0.0, 0.13), (-0.36, 0.0)]
        made.add(flag, prism((0.12, 0, mast - 0.02), outline, 0.18, plane="xz", turn=swing))
        made.caption += f" and {a(flag)} flag"
    return made
