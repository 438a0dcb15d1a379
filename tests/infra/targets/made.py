"""A target made up of random numbers, and its columns: shared by the tests of this folder."""

from __future__ import annotations

from typing import Any

import numpy as np

from geco_core.types import Mesh, Target
from infra.targets.columns import encode_target
from infra.targets.store import StoredTarget

NOISE = [("initial", 2**62), ("reference", 5)]


def made_target(number: int = 0, renders: int = 3) -> Target:
    rng = np.random.default_rng(number)
    images = rng.integers(0, 256, (renders, 6, 6, 4), dtype=np.uint8)
    return Target(
        item_id=f"i{number}",
        seed=number,
        condition=rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        latents=rng.normal(size=(2, 3, 4)).astype(np.float16),
        renders=images,
        w2c=rng.normal(size=(renders, 4, 4)).astype(np.float32),
        fov_deg=50.0,
        key=f"{number:064x}",
        teacher_digest="t" * 64,
        digests={"condition": "c", "settings": "s", "weights": "w"},
    )


def made_columns(number: int = 0, renders: int = 3) -> dict[str, Any]:
    return encode_target(made_target(number, renders), NOISE)


def made_stored(number: int = 0) -> StoredTarget:
    rng = np.random.default_rng(number)
    vertices = rng.normal(size=(5, 3)).astype(np.float32)
    faces = np.array([[0, 1, 2], [2, 3, 4]], np.int32)
    colors = rng.integers(0, 256, (5, 3), dtype=np.uint8)
    return StoredTarget(made_columns(number), Mesh(vertices, faces, colors))


def same_target(first: Target, second: Target) -> None:
    """Assert that two targets are equal, arrays and all."""
    for name in ("condition", "latents", "renders", "w2c"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert getattr(first, name).dtype == getattr(second, name).dtype
    for name in ("item_id", "seed", "fov_deg", "key", "teacher_digest", "digests"):
        assert getattr(first, name) == getattr(second, name)
