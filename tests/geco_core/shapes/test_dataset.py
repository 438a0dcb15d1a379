"""Examples and batches."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch

from geco_core.shapes.dataset import (
    ShapeExample,
    collate,
    condition_elevation,
    make_example,
    surface_cloud,
)
from geco_core.shapes.object import make_object, object_seed

SEED = object_seed("heldout", 3)
SMALL = {"view_size": 32, "condition_size": 48, "n_sdf": 40, "n_color": 24}

PRINT_DIGEST = """
import hashlib
import sys
from geco_core.shapes.dataset import make_example
for seed in map(int, sys.argv[1:]):
    e = make_example(seed, view_size=32, condition_size=48, n_sdf=40, n_color=24, with_ortho=True)
    arrays = (e.condition, e.views, e.sdf_points, e.sdf_values, e.color_points, e.color_values,
              e.color_normals, e.ortho_views, e.ortho_maps)
    print(hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest())
"""


def digest(example: ShapeExample) -> str:
    values = (getattr(example, field.name) for field in fields(example))
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_shapes() -> None:
    example = make_example(SEED, **SMALL)
    assert example.condition.shape == (48, 48, 4)
    assert example.views.shape == (6, 32, 32, 4)
    assert example.sdf_points.shape == (40, 3)
    assert example.sdf_values.shape == (40,)
    assert example.color_points.shape == example.color_values.shape == (24, 3)
    assert example.color_normals.shape == (24, 3)
    assert example.ortho_views is None
    assert example.ortho_maps is None
    made = make_object(SEED)
    assert (example.class_name, example.caption) == (made.class_name, made.caption)


def test_repeatable() -> None:
    assert digest(make_example(SEED, **SMALL)) == digest(make_example(SEED, **SMALL))
    assert digest(make_example(SEED, **SMALL)) != digest(make_example(SEED + 2, **SMALL))


def test_another_process_makes_identical_bytes() -> None:
    seeds = [object_seed("train", i) for i in range(4)]
    command = [sys.executable, "-c", PRINT_DIGEST, *map(str, seeds)]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert there == [digest(make_example(seed, **SMALL, with_ortho=True)) for seed in seeds]


def test_more_points_leave_the_rest_alone() -> None:
    few = make_example(SEED, **SMALL)
    more = make_example(SEED, **{**SMALL, "n_sdf": 80})
    np.testing.assert_array_equal(few.color_points, more.color_points)
    np.testing.assert_array_equal(few.views, more.views)
    np.testing.assert_array_equal(few.condition, more.condition)


def test_elevations_cover_their_range() -> None:
    drawn = [condition_elevation(object_seed("train", i)) for i in range(400)]
    assert -5.0 <= min(drawn) < -4.0
    assert 24.0 < max(drawn) < 25.0
    assert np.mean(drawn) == pytest.approx(10.0, abs=1.5)


def test_collate() -> None:
    examples = [make_example(object_seed("train", i), **SMALL, with_ortho=True) for i in range(3)]
    batch = collate(examples)
    shapes = {k: tuple(v.shape) for k, v in batch.items() if isinstance(v, torch.Tensor)}
    assert shapes == {
        "condition": (3, 3, 48, 48),
        "views": (3, 6, 3, 32, 32),
        "ortho_views": (3, 6, 3, 32, 32),
        "ortho_maps": (3, 6, 3, 32, 32),
        "sdf_points": (3, 40, 3),
        "sdf_values": (3, 40),
        "color_points": (3, 24, 3),
        "color_values": (3, 24, 3),
        "color_normals": (3, 24, 3),
    }
    assert all(v.dtype == torch.float32 for v in batch.values() if isinstance(v, torch.Tensor))
    assert batch["captions"] == [example.caption for example in examples]
    assert batch["views"][0, 0, :, 0, 0].tolist() == [1.0, 1.0, 1.0]
    assert batch["views"].min() < 0.6


def test_collate_leaves_out_what_is_not_there() -> None:
    mixed = [make_example(SEED, **SMALL), make_example(SEED, **SMALL, with_ortho=True)]
    assert "ortho_views" not in collate(mixed)
    with pytest.raises(ValueError, match="empty batch"):
        collate([])


def test_surface_cloud_is_on_the_surface() -> None:
    made = make_object(SEED)
    cloud = surface_cloud(made, 100)
    assert cloud.shape == (100, 3)
    assert np.abs(made.sdf(cloud)).max() < 0.015
