"""The closed list of object classes.

It is frozen: the class of a seed is drawn from the length and the order of this list, so a class
added, removed or moved gives nearly every seed another object.
"""

from __future__ import annotations

from collections.abc import Callable

from geco_core.shapes import creatures, furniture, scenery, solids, things, vehicles
from geco_core.shapes.palette import Dice
from geco_core.shapes.parts import Blueprint

Builder = Callable[[Dice], Blueprint]

BUILDERS: dict[str, Builder] = {
    "cube": solids.build_cube,
    "ball": solids.build_ball,
    "cylinder": solids.build_cylinder,
    "cone": solids.build_cone,
    "torus": solids.build_torus,
    "capsule": solids.build_capsule,
    "chair": furniture.build_chair,
    "table": furniture.build_table,
    "stool": furniture.build_stool,
    "sofa": furniture.build_sofa,
    "bed": furniture.build_bed,
    "lamp": furniture.build_lamp,
    "dog": creatures.build_dog,
    "cat": creatures.build_cat,
    "bird": creatures.build_bird,
    "fish": creatures.build_fish,
    "snowman": creatures.build_snowman,
    "robot": creatures.build_robot,
    "car": vehicles.build_car,
    "truck": vehicles.build_truck,
    "rocket": vehicles.build_rocket,
    "plane": vehicles.build_plane,
    "boat": vehicles.build_boat,
    "tree": scenery.build_tree,
    "mushroom": scenery.build_mushroom,
    "cactus": scenery.build_cactus,
    "house": scenery.build_house,
    "castle tower": scenery.build_castle_tower,
    "mug": things.build_mug,
    "bottle": things.build_bottle,
    "umbrella": things.build_umbrella,
    "hammer": things.build_hammer,
    "dumbbell": things.build_dumbbell,
    "ice cream": things.build_ice_cream,
    "teapot": things.build_teapot,
}
CLASS_NAMES: tuple[str, ...] = tuple(BUILDERS)
