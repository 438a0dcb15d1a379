"""Examples for CRM: inputs and supervision speak of one frame, on disk as in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geco_core.fields.rolled_planes import plane_features, unroll_planes
from geco_core.reconstruct.crm_input import network_input
from geco_core.shapes.canonical import MESH_SCALE
from geco_core.training.crm_examples import (
    CrmCacheSpec,
    CrmExamples,
    ensure_crm_examples,
    make_crm_examples,
)

SIZE = 32
SPEC = CrmCacheSpec(examples=2, view_size=SIZE, condition_size=24, sdf_points=64, color_points=200)
# Per block xy, yz, zx: the axis of its depth, its channel, and whether group 0 sees the far side.
BLOCKS = ((2, 0, True), (0, 2, True), (1, 1, False))
ALL = torch.arange(2)
EVERY_SDF, EVERY_COLOR = torch.arange(64), torch.arange(200)


@pytest.fixture(scope="module")
def examples() -> CrmExamples:
    return make_crm_examples(SPEC)


def test_sizes_and_ranges(examples: CrmExamples) -> None:
    assert len(examples) == 2
    row = torch.tensor([1])
    assert examples.views(row).shape == examples.ccms(row).shape == (1, 6, 3, SIZE, SIZE)
    points, distances = examples.sdf(ALL, EVERY_SDF)
    assert points.shape == (2, 64, 3)
    assert distances.shape == (2, 64)
    surface, colors = examples.colors(ALL, EVERY_COLOR)
    assert surface.abs().max() < 1.0
    assert 0.0 <= float(colors.min()) < float(colors.max()) <= 1.0
    inputs = examples.inputs(row)
    assert inputs.shape == (1, 12, SIZE, 3 * SIZE)
    assert 0.4 < inputs[0, :6].mean() < 0.6
    assert torch.equal(inputs, network_input(examples.views(row), examples.ccms(row)))


def test_rows_and_columns_are_those_asked_for(examples: CrmExamples) -> None:
    rows, columns = torch.tensor([1, 0, 1]), torch.tensor([5, 3])
    points, distances = examples.sdf(rows, columns)
    all_points, all_distances = examples.sdf(ALL, EVERY_SDF)
    assert torch.equal(points, all_points[rows][:, columns])
    assert torch.equal(distances, all_distances[rows][:, columns])
    surface, colors = examples.colors(rows, columns)
    all_surface, all_colors = examples.colors(ALL, EVERY_COLOR)
    assert torch.equal(surface, all_surface[rows][:, columns])
    assert torch.equal(colors, all_colors[rows][:, columns])
    assert torch.equal(examples.views(rows)[0], examples.views(ALL)[1])
    assert not torch.equal(all_points[0], all_points[1])


def test_the_condition_shows_the_object_over_grey(examples: CrmExamples) -> None:
    images = examples.conditions(ALL)
    assert all(image.shape == (24, 24, 3) and image.dtype == np.uint8 for image in images)
    assert not np.array_equal(images[0], images[1])
    for image in images:
        assert image[0, 0].tolist() == image[-1, -1].tolist() == [127, 127, 127]
        share = float((np.abs(image.astype(int) - 127).max(-1) > 8).mean())
        assert 0.05 < share < 0.8
    framed = make_crm_examples(replace(SPEC, examples=1, foreground_ratio=0.85)).conditions(ALL[:1])
    covered = np.abs(framed[0].astype(int) - 127).max(-1) > 8
    height, width = np.ptp(np.nonzero(covered.any(1))[0]) + 1, np.ptp(np.nonzero(covered.any(0))[0])
    assert max(height, width + 1) == pytest.approx(0.85 * 24, abs=2)


def test_points_lie_between_the_depths_of_the_two_groups(examples: CrmExamples) -> None:
    planes = unroll_planes(examples.inputs(ALL))
    points, _ = examples.colors(ALL, EVERY_COLOR)
    found = plane_features(planes, points)  # [n, 3, Q, 12]
    for block, (axis, channel, first_is_low) in enumerate(BLOCKS):
        depths = (found[:, block, :, [6 + channel, 9 + channel]] * 2 - 1) * MESH_SCALE
        low, high = depths.unbind(-1) if first_is_low else depths.flip(-1).unbind(-1)
        value = points[..., axis]
        between = (value > low - 0.08) & (value < high + 0.08)
        assert between.float().mean() > 0.85, block
        touching = ((value - low).abs() < 0.08) | ((value - high).abs() < 0.08)
        assert touching.float().mean() > 0.5, block


def test_distances_shrink_with_the_points(examples: CrmExamples) -> None:
    points, distances = examples.sdf(ALL, EVERY_SDF)
    surface, _ = examples.colors(ALL, EVERY_COLOR)
    near = distances[:, :32].abs()  # the first half is near the surface
    distance = torch.cdist(points[:, :32], surface).amin(-1)
    assert (distance - near).median() < 0.06
    assert bool((distance > near - 0.02).all())
    assert float(near.max()) < float(distances[:, 32:].abs().max())


def test_the_same_rows_come_from_disk(examples: CrmExamples, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    stored = ensure_crm_examples(tmp_path, SPEC, 1, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 2)]
    for read in ("views", "ccms", "inputs"):
        assert torch.equal(getattr(stored, read)(ALL), getattr(examples, read)(ALL)), read
    for read, columns in (("sdf", EVERY_SDF), ("colors", EVERY_COLOR)):
        for ours, theirs in zip(
            getattr(stored, read)(ALL, columns), getattr(examples, read)(ALL, columns), strict=True
        ):
            assert torch.equal(ours, theirs), read
    for ours, theirs in zip(stored.conditions(ALL), examples.conditions(ALL), strict=True):
        assert np.array_equal(ours, theirs)
    ensure_crm_examples(tmp_path, SPEC, 1, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 2)]  # what is there is not made again
    other = replace(SPEC, examples=1, version=2)
    again = ensure_crm_examples(tmp_path, other, 1, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 2), (1, 1)]
    assert torch.equal(again.views(ALL[:1]), examples.views(ALL[:1]))


def test_splits_hold_other_objects(examples: CrmExamples) -> None:
    heldout = make_crm_examples(replace(SPEC, split="heldout", examples=1))
    assert not torch.equal(heldout.views(ALL[:1]), examples.views(ALL[:1]))
