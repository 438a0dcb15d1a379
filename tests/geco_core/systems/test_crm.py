"""CRM as a system: batch invariance, seeds, bad members, precision, published numbers."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from geco_core.config.crm_system import CrmConfig
from geco_core.config.load import load, preset_path
from geco_core.config.models import ExtractionConfig
from geco_core.diffusion.noise import ItemNoise
from geco_core.errors import BadItem, ConfigError, Reason
from geco_core.fields.color import DeviceColor
from geco_core.fields.rolled_color import RolledColor
from geco_core.multiview.crm import CrmDiffusion, CrmFrames
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.systems.crm import CrmSystem, build_crm, networks_of, resize_frames
from geco_core.systems.device import place
from geco_core.types import Condition, Item, Mesh, System
from tests.geco_core.multiview.crm_models import CRM, seeded
from tests.geco_core.reconstruct.crm_models import TINY
from tests.support.tiny_teacher import picture

CPU = torch.device("cpu")
CONFIG = CrmConfig(
    diffusion=CRM,
    reconstructor=TINY,
    extraction=ExtractionConfig(grid_res=16, exact=True),
    device="cpu",
)


def made(config: CrmConfig = CONFIG) -> CrmSystem:
    diffusion = seeded(CrmDiffusion, config.diffusion)
    reconstructor = seeded(CrmReconstructor, config.reconstructor)
    return CrmSystem(config, diffusion, reconstructor, "digest", CPU)


@pytest.fixture(scope="module")
def system() -> CrmSystem:
    """Random weights: what is tested here does not depend on training."""
    return made()


def conditions(system: CrmSystem, count: int) -> list[Condition]:
    return [system.prepare(Item(f"i{k}", image=picture(k, 32))) for k in range(count)]


def meshes(results: list[object]) -> list[Mesh]:
    assert all(isinstance(r, Mesh) for r in results), results
    return [r for r in results if isinstance(r, Mesh)]


def mesh_bytes(mesh: Mesh) -> bytes:
    assert mesh.colors is not None
    return mesh.vertices.tobytes() + mesh.faces.tobytes() + mesh.colors.tobytes()


def test_it_is_a_system(system: CrmSystem) -> None:
    assert isinstance(system, System)
    assert (system.name, system.preset) == ("crm", "micro")


def test_an_item_gives_the_same_bytes_alone_and_in_any_batch(system: CrmSystem) -> None:
    some, seeds = conditions(system, 3), [11, 12, 13]
    together = meshes(system.generate(some, seeds))
    reordered = meshes(system.generate(some[::-1], seeds[::-1]))[::-1]
    alone = [meshes(system.generate([c], [s]))[0] for c, s in zip(some, seeds, strict=True)]
    for first, second, third in zip(together, reordered, alone, strict=True):
        assert mesh_bytes(first) == mesh_bytes(second) == mesh_bytes(third)


def test_the_seed_decides_views_maps_and_the_noise_of_the_input(system: CrmSystem) -> None:
    (condition,) = conditions(system, 1)
    frames = system.frames([condition, condition], [1, 2])
    assert frames.views.dtype == frames.ccms.dtype == torch.uint8
    assert frames.views.shape == frames.ccms.shape == (2, 6, 16, 16, 3)
    for both in (frames.views, frames.ccms):
        assert not torch.equal(both[0], both[1])
    one = CrmFrames(frames.views[:1], frames.ccms[:1])
    (first,), (second,) = (meshes(system.reconstruct(one, [seed])) for seed in (1, 2))
    assert mesh_bytes(first) != mesh_bytes(second)
    assert mesh_bytes(first) == mesh_bytes(meshes(system.generate([condition], [1]))[0])


def test_frames_are_those_of_the_two_stages(system: CrmSystem) -> None:
    (condition,) = conditions(system, 1)
    assert condition.rgba is not None
    model = system.models[0]
    expected = model.generate([model.composite(condition.rgba)], ItemNoise([5]))
    found = system.frames([condition], [5])
    assert torch.equal(found.views, expected.views)
    assert torch.equal(found.ccms, expected.ccms)


def test_stages_are_timed(system: CrmSystem) -> None:
    system.generate(conditions(system, 1), [1])
    timing = system.timing()
    assert set(timing) == {"views", "ccm", "multiview", "reconstruct", "extract"}
    assert min(timing.values()) > 0
    assert timing["multiview"] == timing["views"] + timing["ccm"]


def test_the_picture_is_framed_where_the_configuration_says_so(system: CrmSystem) -> None:
    item = Item("a", image=picture(0, 40))
    kept = system.prepare(item).rgba
    assert kept is not None
    assert kept.shape == (40, 40, 4)
    framing = dataclasses.replace(CRM, foreground_ratio=0.5)
    rgba = made(dataclasses.replace(CONFIG, diffusion=framing)).prepare(item).rgba
    assert rgba is not None
    rows = np.nonzero(rgba[..., 3].max(axis=1))[0]
    assert np.ptp(rows) / len(rgba) == pytest.approx(0.5, abs=0.06)


def test_a_field_without_a_surface_is_an_empty_mesh() -> None:
    system = made()
    with torch.no_grad():
        system.models[1].decoder.geometry_head.last.bias[0] = -100.0
    (result,) = system.generate(conditions(system, 1), [1])
    assert isinstance(result, BadItem)
    assert (result.reason, result.item_id) == (Reason.EMPTY_MESH, "i0")


def test_a_member_that_becomes_nan_fails_alone(
    system: CrmSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, good = system.models[0], conditions(system, 2)
    bad = dataclasses.replace(good[1], item_id="bad", rgba=np.zeros((4, 4, 4), np.uint8))
    decode = model.encoders.images
    grey = model.composite(np.zeros((4, 4, 4), np.uint8))
    make_views = model.make_views

    def spoilt(images: list[np.ndarray], noise: ItemNoise) -> torch.Tensor:
        with monkeypatch.context() as patch:
            if any(np.array_equal(image, grey) for image in images):
                patch.setattr(model.encoders, "images", lambda latents: decode(latents) * np.nan)
            return make_views(images, noise)

    monkeypatch.setattr(model, "make_views", spoilt)
    first, second, third = system.generate([good[0], bad, good[1]], [1, 2, 3])
    assert isinstance(second, BadItem)
    assert (second.reason, second.item_id) == (Reason.NON_FINITE, "bad")
    assert isinstance(first, Mesh)
    assert isinstance(third, Mesh)
    monkeypatch.undo()
    assert mesh_bytes(third) == mesh_bytes(meshes(system.generate([good[1]], [3]))[0])


def test_frames_of_another_size_than_the_planes_are_resized(system: CrmSystem) -> None:
    unet = dataclasses.replace(TINY.unet, plane_size=32)
    larger = made(dataclasses.replace(CONFIG, reconstructor=dataclasses.replace(TINY, unet=unet)))
    meshes(larger.generate(conditions(larger, 1), [1]))


def test_antialiasing_sees_every_pixel() -> None:
    """Every fourth column is 1: of 16 columns to 4, plain bilinear would take the two between."""
    columns = (torch.arange(16) % 4 == 0).float().expand(1, 1, 1, 16, 16)
    found = resize_frames(columns, 4)[0, 0, 0, 1:3, 1:3]
    torch.testing.assert_close(found, torch.full_like(found, 0.25), atol=0.1, rtol=0)
    assert resize_frames(columns, 16) is columns


def test_the_configured_precision_is_used_and_stays_close(system: CrmSystem) -> None:
    some = conditions(system, 1)
    exact = system.frames(some, [1])
    low = CrmSystem(dataclasses.replace(CONFIG, dtype="bfloat16"), *system.models, "digest", CPU)
    rounded = low.frames(some, [1])
    assert not torch.equal(exact.views, rounded.views)
    assert float((exact.views.float() - rounded.views.float()).abs().mean()) < 8
    (mesh,) = meshes(low.reconstruct(exact, [1]))
    (expected,) = meshes(system.reconstruct(exact, [1]))
    assert mesh.vertices.dtype == np.float32
    assert abs(len(mesh.vertices) - len(expected.vertices)) < 0.2 * len(expected.vertices)


def test_the_colour_field_travels_with_the_mesh(system: CrmSystem) -> None:
    (mesh,) = meshes(system.generate(conditions(system, 1), [1]))
    assert isinstance(mesh.color_fn, DeviceColor)
    assert "on_host" not in vars(mesh.color_fn)
    travelled = pickle.loads(pickle.dumps(mesh)).color_fn
    assert type(travelled) is RolledColor
    assert mesh.colors is not None
    near = travelled(mesh.vertices) * 255 - mesh.colors
    assert np.abs(near).mean() < 1.0
    moved = travelled(mesh.vertices[:, [1, 2, 0]]) * 255 - mesh.colors
    assert np.abs(moved).mean() > 2.0


def test_the_large_networks_are_compiled_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: seen.append(call.__self__) or call)
    diffusion, reconstructor = made().models
    config = dataclasses.replace(CONFIG, compile="default", channels_last="always")
    place(config, CPU, networks_of(diffusion, reconstructor))
    codec = diffusion.encoders.codec
    assert seen == [
        diffusion.views.unet,
        diffusion.ccm.unet,
        codec.vae.encoder,
        codec.vae.decoder,
        reconstructor.unet.network,
    ]
    weight = diffusion.ccm.unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_the_full_preset_is_the_published_system() -> None:
    config = load(CrmConfig, preset_path("crm", "full"))
    diffusion = config.diffusion
    for sampler in (diffusion.views_sampler, diffusion.ccm_sampler):
        assert (sampler.steps, sampler.guidance_scale, sampler.last_alpha) == (50, 5.0, "first")
    assert (diffusion.foreground_ratio, diffusion.content_ratio) == (0.0, 1.0)
    assert diffusion.background == 127
    assert diffusion.encoders.image_size == config.reconstructor.unet.plane_size == 256
    assert (config.extraction.grid_res, config.reconstructor.timestep) == (80, 20)
    with torch.device("meta"):
        models = CrmDiffusion(diffusion), CrmReconstructor(config.reconstructor)
    half, whole = (sum(p.numel() for p in model.parameters()) for model in models)
    assert 6.3 < (2 * half + 4 * whole) / 1e9 < 0.6 * config.memory_gb


def test_unknown_overrides_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        build_crm("full", ["diffusion.views_samplr.steps=3"])
    assert "views_sampler" in caught.value.remedy


@pytest.mark.gpu
def test_a_gpu_makes_frames_close_to_those_of_a_cpu(system: CrmSystem) -> None:
    some = conditions(system, 2)
    config = dataclasses.replace(CONFIG, device="cuda")
    models = seeded(CrmDiffusion, CRM), seeded(CrmReconstructor, TINY)
    there = CrmSystem(config, *models, "digest", torch.device("cuda"))
    expected, found = system.frames(some, [1, 2]), there.frames(some, [1, 2])
    assert int((expected.views.int() - found.views.int()).abs().max()) <= 2
    meshes(there.generate(some, [1, 2]))
