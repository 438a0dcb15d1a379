"""Variants side by side: costs are counted, differences paired, empty meshes scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig, SamplerConfig
from geco_core.evaluate.distilled import (
    METRICS,
    Row,
    Variant,
    evaluate_variants,
    item_seed,
    summarise_variants,
)
from geco_core.evaluate.mesh_quality import NO_MESH_CHAMFER
from geco_core.evaluate.micro_quality import HeldOut, load_heldout
from geco_core.systems.instantmesh import InstantMeshSystem, build_instantmesh

CONFIG = load(InstantMeshConfig, preset_path("instantmesh", "micro"))
ONE = SamplerConfig(kind="one_step", steps=1, guidance_scale=1.0)
FEW = SamplerConfig(kind="ddim", steps=2, guidance_scale=2.0)


@pytest.fixture(scope="module")
def system() -> InstantMeshSystem:
    return build_instantmesh("micro")


@pytest.fixture(scope="module")
def truth() -> HeldOut:
    return load_heldout(2, CONFIG, points=500)


@pytest.fixture(scope="module")
def rows(system: InstantMeshSystem, truth: HeldOut) -> list[Row]:
    multiview, reconstructor = system.models
    variants = [Variant(n, multiview, reconstructor, s) for n, s in (("few", FEW), ("one", ONE))]  # pyright: ignore[reportArgumentType]
    return evaluate_variants(variants, truth, CONFIG, (0, 1), lambda _: None)


def test_every_variant_object_and_seed_has_a_row(rows: list[Row]) -> None:
    keys = [(row["variant"], row["seed"], row["object"]) for row in rows]
    assert sorted(keys) == sorted((v, s, o) for v in ("few", "one") for s in (0, 1) for o in (0, 1))
    assert all(0.2 < row["iou"] <= 1.0 for row in rows)
    assert all(10.0 < row["view_psnr"] < 40.0 and row["view_feature"] > 0 for row in rows)
    assert all(0.0 < row["chamfer"] < 0.5 and row["render_psnr"] > 10.0 for row in rows)


def test_network_evaluations_count_rows_of_both_passes(rows: list[Row]) -> None:
    assert {r["network_evaluations"] for r in rows if r["variant"] == "one"} == {2.0}
    # two steps, each with a reference and a main pass over a negative and a positive row
    assert {r["network_evaluations"] for r in rows if r["variant"] == "few"} == {8.0}


def test_an_empty_surface_counts_as_a_bad_mesh(system: InstantMeshSystem, truth: HeldOut) -> None:
    multiview, reconstructor = system.models
    grid = replace(CONFIG, extraction=replace(CONFIG.extraction, grid_res=64))

    class Nothing(torch.nn.Module):
        decoder = reconstructor.decoder

        def forward_planes(self, images: Tensor, cameras: Tensor) -> Tensor:
            return reconstructor.forward_planes(images, cameras)

        def extract(self, planes: Tensor, config: object) -> Sequence[object]:
            return [reconstructor.extract(planes * torch.nan, grid.extraction)[0]] * len(planes)

    variant = Variant("none", multiview, Nothing(), ONE)  # pyright: ignore[reportArgumentType]
    rows = evaluate_variants([variant], truth, grid, (0,), lambda _: None)
    assert {row["chamfer"] for row in rows} == {NO_MESH_CHAMFER}
    assert all(row["render_psnr"] < 20 for row in rows)


def test_differences_are_paired() -> None:
    def row(variant: str, seed: int, index: int, value: float) -> Row:
        numbers = dict.fromkeys(METRICS, value)
        return {"variant": variant, "seed": seed, "object": index, "class_name": "cube"} | {
            **numbers,
            "network_evaluations": 2.0,
            "multiview_s": 0.5,
        }

    # Objects differ by 10, variants by exactly 1: only a paired comparison sees it.
    rows = [row("a", s, i, 10.0 * i + s) for i in range(8) for s in (0, 1)]
    rows += [row("b", s, i, 10.0 * i + s + 1.0) for i in range(8) for s in (0, 1)]
    numbers = summarise_variants(rows, against="a")["b"]["iou"]
    assert numbers["mean"] == pytest.approx(36.5)
    assert numbers["low"] < 30
    assert numbers["high"] > 45
    assert (numbers["gap"], numbers["gap_low"], numbers["gap_high"]) == pytest.approx((1, 1, 1))
    assert numbers["seed_spread"] == pytest.approx(0.5)


def test_samples_of_different_seeds_share_no_noise() -> None:
    assert len({item_seed(s, i) for s in range(3) for i in range(1000)}) == 3000
