"""CRM's quality table: what is perfect scores so, errors count, seconds are those of the stages."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

from geco_core.config.models import ExtractionConfig, ViewRigConfig
from geco_core.errors import BadItem, Reason
from geco_core.evaluate.crm_quality import (
    GENERATED,
    STAGES,
    TRUE,
    CrmChain,
    Made,
    chain_floors,
    depth_error,
    from_image,
    from_views,
    measure_chain,
    summarise_chain,
    true_frames,
    world_size,
)
from geco_core.evaluate.crm_truth import CrmHeldOut, load_crm_heldout
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.multiview.crm import CrmDiffusion
from geco_core.multiview.ortho_views import AXES
from geco_core.reconstruct.crm_input import frame_values
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.shapes.canonical import MESH_SCALE
from geco_core.shapes.object import make_object
from geco_core.shapes.views import ORTHO_HALF_EXTENT
from tests.geco_core.multiview.crm_models import CRM, seeded
from tests.geco_core.reconstruct.crm_models import tiny_crm

RIG = ViewRigConfig(view_size=24)


@pytest.fixture(scope="module")
def truth() -> CrmHeldOut:
    return load_crm_heldout(2, view_size=16, points=500)


@pytest.fixture
def chain() -> CrmChain:
    return CrmChain(seeded(CrmDiffusion, CRM), tiny_crm(), ExtractionConfig(grid_res=24))


def all_views(truth: CrmHeldOut) -> tuple[Tensor, Tensor]:
    rows = torch.arange(len(truth))
    return truth.examples.views(rows), truth.examples.ccms(rows)


def test_every_object_is_measured_from_both_sources(chain: CrmChain, truth: CrmHeldOut) -> None:
    ticks, heard = count(), dict[int, Made]()
    rows = measure_chain(chain, truth, RIG, heard.__setitem__, lambda: float(next(ticks)))
    assert [(row["object"], row["source"]) for row in rows] == [
        (0, TRUE),
        (0, GENERATED),
        (1, TRUE),
        (1, GENERATED),
    ]
    common = {"object", "class_name", "source", "iou", "chamfer", "render_psnr", "depth_error"}
    assert rows[0].keys() == common
    assert rows[1].keys() == common | {"view_psnr"} | {f"{stage}_s" for stage in STAGES}
    assert {rows[1][f"{stage}_s"] for stage in STAGES} == {1.0}
    again = measure_chain(chain, truth, RIG, lambda _, __: None, lambda: 0.0)
    assert [row["iou"] for row in again] == [row["iou"] for row in rows]
    assert sorted(heard) == [0, 1]
    assert not torch.equal(heard[0].frames.views, heard[1].frames.views)


def test_a_perfect_field_scores_perfectly(
    chain: CrmChain, truth: CrmHeldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_object(truth.seeds[0])

    def field(planes: Tensor, points: Tensor) -> Tensor:
        world = canonical_to_world(points[0]) * ORTHO_HALF_EXTENT
        return -torch.from_numpy(made.sdf(world.numpy()))[None]

    monkeypatch.setattr(chain.reconstructor.decoder, "field", field)
    one = replace(
        truth, seeds=truth.seeds[:1], conditions=truth.conditions[:1], inside=truth.inside[:1]
    )
    rows = measure_chain(chain, one, RIG, lambda _, __: None)
    assert [row["iou"] for row in rows] == [1.0, 1.0]
    assert max(row["chamfer"] for row in rows) < 0.05  # at 1 / 1.05 of the size it is above


def test_depth_is_read_along_the_view_and_on_the_object_alone(truth: CrmHeldOut) -> None:
    _, ccms = all_views(truth)
    assert depth_error(ccms, ccms).tolist() == [0.0, 0.0]
    across, along = ccms.clone(), ccms.clone()
    for view, axes in enumerate(AXES):
        across[:, view, axes.right[0]] += 0.1
        along[:, view, axes.towards[0]] += 0.1
    assert float(depth_error(across, ccms).max()) < 1e-6
    wanted = 0.2 * MESH_SCALE * ORTHO_HALF_EXTENT
    assert depth_error(along, ccms).tolist() == pytest.approx([wanted, wanted], rel=1e-4)
    empty = ccms == ccms[0, 0, :, 0, 0][:, None, None]  # the background of a corner
    off = torch.where(empty.all(2, keepdim=True), ccms + 0.5, ccms)
    assert float(depth_error(off, ccms).max()) == 0.0


def test_true_frames_are_the_examples(chain: CrmChain, truth: CrmHeldOut) -> None:
    views, ccms = all_views(truth)
    frames = true_frames(chain.diffusion, truth, 1)
    assert frames.views.dtype == torch.uint8
    torch.testing.assert_close(frame_values(frames.views), views[1:])
    torch.testing.assert_close(frame_values(frames.ccms), ccms[1:])


def test_both_ways_in_meet_at_the_reconstructor(chain: CrmChain, truth: CrmHeldOut) -> None:
    rgba, seed = truth.conditions[0], truth.seeds[0]
    made = from_image(chain, rgba, seed)
    assert torch.equal(made.planes, from_views(chain, rgba, made.frames, seed).planes)
    assert not torch.equal(made.planes, from_views(chain, rgba, made.frames, seed + 1).planes)


def test_meshes_take_the_size_of_the_world() -> None:
    mesh = SurfaceMesh(torch.ones(1, 3), torch.zeros(0, 3, dtype=torch.int64), torch.ones(1, 3))
    grown = world_size(mesh)
    assert isinstance(grown, SurfaceMesh)
    assert grown.vertices[0].tolist() == pytest.approx([ORTHO_HALF_EXTENT] * 3)
    nothing = BadItem("empty", reason=Reason.EMPTY_MESH)
    assert world_size(nothing) is nothing


def test_floors_are_what_the_mean_object_scores(truth: CrmHeldOut) -> None:
    found = chain_floors(truth, RIG)
    assert found["view_psnr_grey"] < found["view_psnr_mean_object"] < 40.0
    assert found["render_psnr_white"] < found["render_psnr_mean_object"] < 40.0
    assert 0.0 < found["iou_best_constant"] < 1.0
    assert found["depth_error_mean_object"] > 0.02


def test_summaries_are_by_source() -> None:
    rows: list[dict[str, Any]] = [
        {"source": TRUE, "iou": 0.8},
        {"source": GENERATED, "iou": 0.4, "views_s": 2.0},
        {"source": TRUE, "iou": 0.6},
        {"source": GENERATED, "iou": 0.2, "views_s": 4.0},
    ]
    found = summarise_chain(rows)
    assert found[TRUE].keys() == {"iou"}
    assert found[TRUE]["iou"].mean == pytest.approx(0.7)
    assert found[GENERATED]["views_s"].mean == pytest.approx(3.0)
