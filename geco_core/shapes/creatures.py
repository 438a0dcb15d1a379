"""Builders of creatures and figures: dog, cat, bird, fish, snowman, robot."""

from __future__ import annotations

from geco_core.shapes.palette import Dice
from geco_core.shapes.parts import (
    Blueprint,
    a,
    ball,
    box,
    capsule,
    cone,
    cylinder,
    ellipsoid,
    prism,
    torus,
    turn_about,
)

SIDES = (-1.0, 1.0)


def build_dog(dice: Dice) -> Blueprint:
    """A standing dog: long body, four legs, head with snout, hanging ears, raised tail."""
    color, ears = dice.color(), dice.color()
    length, radius = dice.between(0.45, 0.62), dice.between(0.27, 0.33)
    leg, thick = dice.between(0.5, 0.68), dice.between(0.12, 0.15)
    back, head_x = leg + radius, length + 0.28
    head_z = back + dice.between(0.36, 0.5)
    made = Blueprint(a(f"{color} dog with {ears} ears"))
    made.add(color, capsule((-length, 0, back), (length, 0, back), radius))
    for sx in SIDES:
        for sy in SIDES:
            foot = (sx * (length + 0.02), sy * 0.17, thick)
            made.add(color, capsule(foot, (sx * (length + 0.02), sy * 0.17, back), thick))
    made.add(color, capsule((length, 0, back), (head_x, 0, head_z), 0.18))
    made.add(color, ball((head_x, 0, head_z), 0.3))
    made.add(color, capsule((head_x, 0, head_z - 0.08), (head_x + 0.36, 0, head_z - 0.1), 0.15))
    made.add("black", ball((head_x + 0.5, 0, head_z - 0.05), 0.09))
    for sy in SIDES:
        made.add(ears, ellipsoid((head_x - 0.06, sy * 0.3, head_z), (0.15, 0.1, 0.3)))
        made.add("black", ball((head_x + 0.25, sy * 0.14, head_z + 0.12), 0.06))
    tip = (-length - dice.between(0.4, 0.55), 0.0, back + dice.between(0.4, 0.6))
    made.add(ears, capsule((-length - 0.15, 0, back + 0.1), tip, 0.12))
    return made


def build_cat(dice: Dice) -> Blueprint:
    """A sitting cat: upright body, pointed ears, front legs, tail curled to one side."""
    color, inner = dice.color(), dice.color()
    body, head = dice.between(0.42, 0.5), dice.between(0.36, 0.42)
    head_z = dice.between(1.15, 1.3)
    made = Blueprint(a(f"{color} cat with {inner} ears and tail"))
    made.add(color, ellipsoid((-0.1, 0, 0.5), (body, 0.92 * body, 0.62)))
    made.add(color, ball((-0.12, 0.3, 0.2), 0.22), ball((-0.12, -0.3, 0.2), 0.22))
    made.add(color, ellipsoid((0.08, 0, head_z), (head, 1.12 * head, head)))
    for sy in SIDES:
        made.add(color, capsule((0.3, sy * 0.15, 0.11), (0.2, sy * 0.14, 0.7), 0.11))
        axis = (0.0, sy * 0.35, 1.0)
        made.add(inner, cone((0.05, sy * 0.31, head_z + head + 0.04), 0.19, 0.42, axis=axis))
        made.add("black", ball((0.08 + 0.87 * head, sy * 0.17, head_z + 0.08), 0.08))
    made.add("pink", ball((0.08 + 0.98 * head, 0, head_z - 0.06), 0.08))
    side = dice.choice(SIDES)
    made.add(inner, capsule((-0.45, 0, 0.14), (-0.5, side * 0.5, 0.14), 0.1))
    made.add(inner, capsule((-0.5, side * 0.5, 0.14), (-0.2, side * 0.78, 0.3), 0.1))
    return made


def build_bird(dice: Dice) -> Blueprint:
    """A flying bird: body, head, beak along +x, spread wings, tail fan."""
    color, wings = dice.color(), dice.color()
    beak = dice.color("orange", "yellow", "black")
    length, radius = dice.between(0.55, 0.68), dice.between(0.3, 0.38)
    span, raise_deg = dice.between(0.55, 0.7), dice.between(5.0, 28.0)
    made = Blueprint(a(f"{color} bird with {wings} wings and {a(beak)} beak"))
    made.add(color, ellipsoid((0, 0, 0), (length, radius, radius)))
    head_x = length - 0.03
    made.add(color, ball((head_x, 0, 0.25), 0.27))
    made.add(beak, cone((head_x + 0.38, 0, 0.22), 0.13, 0.34, axis=(1.0, 0.0, -0.1)))
    made.add("black", ball((head_x + 0.15, 0.19, 0.33), 0.07))
    made.add("black", ball((head_x + 0.15, -0.19, 0.33), 0.07))
    for sy in SIDES:
        turn = turn_about("x", sy * raise_deg)
        reach = 0.2 + 0.85 * span
        centre = (-0.05, sy * reach, 0.1 + 0.5 * reach * raise_deg / 45.0)
        made.add(wings, ellipsoid(centre, (0.36, span, 0.13), turn=turn))
    made.add(wings, ellipsoid((-length - 0.18, 0, 0.08), (0.36, 0.28, 0.13)))
    return made


def build_fish(dice: Dice) -> Blueprint:
    """A fish swimming along +x: tall body, tail fin, back fin, side fins, eyes."""
    color, fins = dice.color(), dice.color()
    length, height = dice.between(0.72, 0.85), dice.between(0.42, 0.55)
    width = dice.between(0.26, 0.34)
    made = Blueprint(a(f"{color} fish with {fins} fins"))
    made.add(color, ellipsoid((0.1, 0, 0), (length, width, height)))
    tail = [(0.3, 0.0), (-0.34, 0.5), (-0.34, -0.5)]
    made.add(fins, prism((-length - 0.02, 0, 0), tail, 0.2, plane="xz"))
    back = [(0.4, 0.0), (-0.2, 0.42), (-0.4, 0.38), (-0.35, 0.0)]
    made.add(fins, prism((0.05, 0, height - 0.12), back, 0.2, plane="xz"))
    for sy in SIDES:
        turn = turn_about("x", sy * -30.0)
        made.add(fins, ellipsoid((0.2, sy * (width + 0.12), -0.12), (0.18, 0.22, 0.11), turn=turn))
        eye_x = 0.1 + 0.68 * length
        made.add("white", ball((eye_x, sy * 0.6 * width, 0.12), 0.14))
        made.add("black", ball((eye_x + 0.05, sy * (0.6 * width + 0.07), 0.13), 0.1))
    return made


def build_snowman(dice: Dice) -> Blueprint:
    """Two or three white balls, carrot nose, eyes, scarf, sometimes a hat."""
    body = dice.color("white")
    scarf, nose = dice.color(), dice.color("orange")
    low, middle, head = 0.56, dice.between(0.4, 0.46), dice.between(0.3, 0.35)
    made = Blueprint(f"a snowman with {a(scarf)} scarf")
    made.add(body, ball((0, 0, low), low))
    top = 1.72 * low
    if dice.chance(0.7):
        made.add(body, ball((0, 0, top + 0.7 * middle), middle))
        for z in (0.4, 0.9):
            made.add("black", ball((0.93 * middle, 0, top + z * middle), 0.08))
        top += 1.5 * middle
    centre = top + 0.75 * head
    made.add(body, ball((0, 0, centre), head))
    made.add(scarf, torus((0, 0, top + 0.06), 0.26, 0.11))
    made.add(nose, cone((head + 0.14, 0, centre), 0.1, 0.4, axis=(1.0, 0.0, 0.0)))
    for sy in SIDES:
        made.add("black", ball((0.82 * head, sy * 0.13, centre + 0.13), 0.065))
    if dice.chance(0.6):
        hat = dice.color("black", "brown", "blue", "red", "purple")
        brim = centre + 0.72 * head
        made.add(hat, cylinder((0, 0, brim), head + 0.12, 0.12))
        made.add(hat, cylinder((0, 0, brim + 0.2), head - 0.06, 0.4))
        made.caption += f" and {a(hat)} hat"
    return made


def build_robot(dice: Dice) -> Blueprint:
    """A boxy robot facing +x: head with eyes and antenna, arms, legs, a panel on the chest."""
    color, limbs, eyes = dice.color(), dice.color(), dice.color("yellow", "cyan", "red", "white")
    x, y, z = dice.between(0.28, 0.36), dice.between(0.4, 0.5), dice.between(0.4, 0.5)
    leg, head = dice.between(0.42, 0.55), dice.between(0.27, 0.33)
    chest, neck = leg + z, leg + 2.0 * z
    made = Blueprint(a(f"{color} robot with {limbs} arms and legs") + f" and {eyes} eyes")
    made.add(color, box((0, 0, chest), (x, y, z), rounding=0.06))
    made.add(color, box((0, 0, neck + head), (0.9 * head, 1.15 * head, head - 0.05), rounding=0.05))
    made.add(limbs, cylinder((0, 0, neck), 0.15, 0.2))
    made.add(limbs, box((x, 0, chest - 0.02), (0.06, 0.55 * y, 0.4 * z)))
    made.add(limbs, cylinder((0, 0, neck + 2.0 * head + 0.1), 0.09, 0.3))
    made.add(eyes, ball((0, 0, neck + 2.0 * head + 0.28), 0.12))
    for sy in SIDES:
        made.add(
            eyes, cylinder((0.9 * head, sy * 0.15, neck + head + 0.04), 0.1, 0.16, axis=(1, 0, 0))
        )
        made.add(limbs, box((0, sy * 0.22, 0.5 * leg + 0.05), (0.14, 0.14, 0.5 * leg)))
        made.add(color, box((0.08, sy * 0.22, 0.08), (0.26, 0.18, 0.1)))
        shoulder = (0.0, sy * (y + 0.1), chest + 0.6 * z)
        hand = (dice.between(0.0, 0.3), sy * (y + 0.16), chest - 0.75 * z)
        made.add(limbs, capsule(shoulder, hand, 0.12))
        made.add(color, ball(hand, 0.16))
    return made
