"""Builders of things to hold: mug, bottle, umbrella, hammer, dumbbell, ice cream, teapot."""

from __future__ import annotations

from geco_core.shapes.palette import Dice
from geco_core.shapes.parts import (
    Blueprint,
    Y,
    a,
    ball,
    box,
    capsule,
    cone,
    cylinder,
    ellipsoid,
    frustum,
    torus,
)


def build_mug(dice: Dice) -> Blueprint:
    """A cup with a rim, a drink inside and a handle on +y."""
    color, handle = dice.color(), dice.color()
    drink = dice.color("brown", "white", "orange", "black")
    radius, height = dice.between(0.5, 0.62), dice.between(1.0, 1.35)
    made = Blueprint(a(f"{color} mug with {a(handle)} handle"))
    made.add(color, frustum((0, 0, 0), dice.between(0.85, 1.0) * radius, radius, height))
    made.add(color, torus((0, 0, 0.5 * height), radius - 0.08, 0.09))
    made.add(drink, cylinder((0, 0, 0.5 * height - 0.01), radius - 0.08, 0.08))
    ring = dice.between(0.27, 0.34)
    made.add(handle, torus((0, radius + 0.1, 0.0), ring, 0.11, axis=(1.0, 0.0, 0.0)))
    return made


def build_bottle(dice: Dice) -> Blueprint:
    """A bottle: body, shoulder, neck, cap, a label around the body."""
    color, label, cap = dice.color(), dice.color(), dice.color()
    radius, height = dice.between(0.36, 0.46), dice.between(0.95, 1.2)
    neck = dice.between(0.14, 0.18)
    made = Blueprint(a(f"{color} bottle with {a(label)} label") + f" and {a(cap)} cap")
    made.add(color, cylinder((0, 0, 0.5 * height), radius, height))
    made.add(color, frustum((0, 0, height + 0.14), radius, neck, 0.3))
    made.add(color, cylinder((0, 0, height + 0.4), neck, 0.4))
    made.add(cap, cylinder((0, 0, height + 0.62), neck + 0.05, 0.22))
    made.add(label, cylinder((0, 0, 0.48 * height), radius + 0.03, dice.between(0.4, 0.6) * height))
    return made


def build_umbrella(dice: Dice) -> Blueprint:
    """An open umbrella: canopy, spike, pole, hooked handle."""
    canopy, handle = dice.color(), dice.color()
    wide, rise = dice.between(0.88, 1.0), dice.between(0.4, 0.52)
    height = dice.between(1.35, 1.55)
    made = Blueprint(a(f"{canopy} umbrella with {a(handle)} handle"))
    made.add(canopy, frustum((0, 0, height + 0.22 * rise), wide, 0.6 * wide, 0.44 * rise))
    made.add(canopy, cone((0, 0, height + 0.43 * rise + 0.3 * rise), 0.6 * wide, 0.6 * rise))
    made.add(handle, cylinder((0, 0, height + rise), 0.1, 0.36))
    made.add(handle, cylinder((0, 0, 0.55 * height), 0.11, 0.95 * height))
    made.add(handle, capsule((0, 0, 0.1), (0, 0.16, 0.0), 0.115))
    made.add(handle, capsule((0, 0.16, 0.0), (0, 0.34, 0.16), 0.115))
    return made


def build_hammer(dice: Dice) -> Blueprint:
    """A standing hammer: handle up, head across y."""
    head, handle = dice.color(), dice.color()
    length, reach = dice.between(1.4, 1.7), dice.between(0.5, 0.65)
    thick = dice.between(0.18, 0.24)
    made = Blueprint(a(f"{head} hammer with {a(handle)} handle"))
    made.add(handle, frustum((0, 0, 0.5 * length), 0.14, 0.11, length))
    made.add(handle, cylinder((0, 0, 0.2), 0.17, 0.4))
    style = dice.choice(("mallet", "claw"))
    if style == "mallet":
        made.add(head, cylinder((0, 0, length), 1.25 * thick, 2.0 * reach, axis=Y))
        return made
    made.add(head, box((0, 0.1, length), (thick, reach - 0.1, thick), rounding=0.03))
    made.add(head, cylinder((0, reach, length), 1.2 * thick, 0.2, axis=Y))
    made.add(head, cone((0, -reach - 0.05, length - 0.04), thick, 0.6, axis=(0.0, -1.0, -0.25)))
    return made


def build_dumbbell(dice: Dice) -> Blueprint:
    """A bar along y with two balls or two pairs of discs."""
    weight, bar = dice.color(), dice.color()
    reach, radius = dice.between(0.55, 0.7), dice.between(0.32, 0.42)
    made = Blueprint(a(f"{weight} dumbbell with {a(bar)} bar"))
    discs = dice.chance(0.5)
    grip = reach + (0.45 if discs else 0.0)
    made.add(bar, cylinder((0, 0, 0), dice.between(0.11, 0.14), 2.0 * grip, axis=Y))
    for sy in (-1.0, 1.0):
        if discs:
            made.add(weight, cylinder((0, sy * reach, 0), radius + 0.08, 0.22, axis=Y))
            made.add(weight, cylinder((0, sy * (reach + 0.22), 0), radius - 0.06, 0.24, axis=Y))
        else:
            made.add(weight, ball((0, sy * reach, 0), radius))
    return made


def build_ice_cream(dice: Dice) -> Blueprint:
    """A brown cone, one or two scoops, a cherry."""
    waffle = dice.color("brown")
    scoop = dice.color()
    radius, height = dice.between(0.42, 0.52), dice.between(0.9, 1.15)
    made = Blueprint(a(f"{scoop} ice cream in {a(waffle)} cone"))
    made.add(waffle, cone((0, 0, 0.5 * height), 0.92 * radius, height, axis=(0.0, 0.0, -1.0)))
    made.add(waffle, torus((0, 0, height), 0.86 * radius, 0.09))
    made.add(scoop, ball((0, 0, height + 0.35 * radius), radius))
    top = height + 1.3 * radius
    if dice.chance(0.5):
        second = dice.color()
        made.add(second, ball((0, 0, top + 0.3 * radius), 0.8 * radius))
        made.caption = a(f"{scoop} and {second} ice cream in {a(waffle)} cone")
        top += 1.05 * radius
    cherry = dice.color("red", "purple", "pink", "yellow")
    made.add(cherry, ball((0, 0, top + 0.08), 0.15))
    return made


def build_teapot(dice: Dice) -> Blueprint:
    """A round pot with a lid, spout on +y and handle on -y."""
    color, trim = dice.color(), dice.color()
    radius, tall = dice.between(0.6, 0.7), dice.between(0.5, 0.6)
    made = Blueprint(a(f"{color} teapot with {a(trim)} lid and handle"))
    made.add(color, ellipsoid((0, 0, 0), (radius, radius, tall)))
    made.add(color, cylinder((0, 0, -tall + 0.04), 0.6 * radius, 0.16))
    made.add(trim, ellipsoid((0, 0, tall - 0.06), (0.58 * radius, 0.58 * radius, 0.16)))
    made.add(trim, ball((0, 0, tall + 0.16), 0.13))
    made.add(color, capsule((0, radius - 0.15, -0.1), (0, radius + 0.3, 0.32), 0.13))
    made.add(trim, torus((0, -radius - 0.06, 0.04), 0.3, 0.12, axis=(1.0, 0.0, 0.0)))
    return made
