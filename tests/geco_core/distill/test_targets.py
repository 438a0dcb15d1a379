"""Teacher targets are functions of their own rows, and render as Stage II does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geco_core.cameras import projection
from geco_core.config.distill import TargetsConfig
from geco_core.config.models import InstantMeshConfig, ReconstructorConfig, SamplerConfig
from geco_core.config.run import model_overrides
from geco_core.diffusion import noise as streams
from geco_core.diffusion.noise import ItemNoise, RecordedNoise
from geco_core.distill.target_address import target_condition
from geco_core.distill.target_images import over_white
from geco_core.distill.targets import MadeTarget, TargetMaker, check_teacher, make_target
from geco_core.errors import BadItem, ConfigError, Reason
from geco_core.imaging.framing import condition_pixels
from geco_core.imaging.views import resize_views
from geco_core.mesh.frames import gltf_to_world
from geco_core.multiview.generate import generate_views
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.render.mesh import render_mesh
from geco_core.render.registry import get_rasterizer
from geco_core.systems.instantmesh import InstantMeshSystem, build_instantmesh
from geco_core.types import Item, Target
from tests.support.tiny_teacher import picture, tiny_model

SETTINGS = TargetsConfig(renders=5, render_size=24)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> InstantMeshSystem:
    return build_instantmesh("micro", model_overrides(tiny_model(tmp_path_factory.mktemp("w"))))


def condition(teacher: InstantMeshSystem, index: int = 0) -> np.ndarray:
    rgba = teacher.prepare(Item("x", image=picture(index))).rgba
    assert rgba is not None
    return target_condition(rgba, teacher.config.multiview)


def made(teacher: InstantMeshSystem, index: int = 0, seed: int = 7) -> Target:
    target = make_target(teacher, condition(teacher, index), seed, SETTINGS)
    assert isinstance(target, Target)
    return target


def test_a_target_holds_what_its_docstring_says(teacher: InstantMeshSystem) -> None:
    target = made(teacher)
    assert target.condition.shape == (32, 32, 3)
    assert target.latents.shape == teacher.models[0].latent_shape
    assert target.latents.dtype == np.float16
    assert target.renders.shape == (5, 24, 24, 4)
    assert target.renders.dtype == np.uint8
    assert (target.w2c.shape, target.w2c.dtype) == ((5, 4, 4), np.float32)
    assert {*target.digests} == {"condition", "settings", "weights"}
    assert len(target.key) == len(target.teacher_digest) == 64
    alpha = target.renders[..., 3]
    assert 0.02 < (alpha == 255).mean() < 0.9
    assert (target.renders[alpha == 0] == (255, 255, 255, 0)).all()


def test_the_same_item_gives_the_same_target_alone_and_in_any_batch(
    teacher: InstantMeshSystem,
) -> None:
    images = [condition(teacher, k) for k in range(3)]
    maker = TargetMaker(teacher, SETTINGS)
    together = [r.target for r in maker.make(images, [5, 6, 7]) if isinstance(r, MadeTarget)]
    alone = [
        make_target(teacher, image, seed, SETTINGS)
        for image, seed in zip(images, [5, 6, 7], strict=True)
    ]
    for first, second in zip(together, alone, strict=True):
        assert isinstance(second, Target)
        for name in ("condition", "latents", "renders", "w2c"):
            assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
        assert first.key == second.key
    assert together[0].latents.tobytes() != together[1].latents.tobytes()


def test_each_target_is_there_before_the_next_is_begun(
    teacher: InstantMeshSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = TargetMaker(teacher, SETTINGS)
    sampled: list[int] = []
    views = maker._views
    monkeypatch.setattr(maker, "_views", lambda c, s: (sampled.append(s[0]), views(c, s))[1])
    arriving = maker.make([condition(teacher)] * 2, [1, 2])
    next(arriving)
    assert sampled == [1]


def test_z_is_where_the_sample_started(teacher: InstantMeshSystem) -> None:
    """With the recorded seed alone the teacher's latents are made again, by hand."""
    target = made(teacher)
    model, sampler = teacher.models[0], teacher.config.sampler
    noise = ItemNoise([target.seed])
    shape = model.condition_shape
    vae, clip = condition_pixels([target.condition], model.config)
    with torch.no_grad():
        positive = model.encode_condition(vae, clip, noise.draw(streams.POSTERIOR, shape))
        negative = model.negative_condition(1, noise.draw(streams.POSTERIOR_NEGATIVE, shape))
        names = (streams.REFERENCE, streams.REFERENCE_NEGATIVE)
        draws = {n: [noise.draw(n, shape) for _ in range(sampler.steps)] for n in names}
        draws[streams.INITIAL] = [target.z(target.latents.shape)[None]]
        latents = model.sample(positive, RecordedNoise(draws), sampler, negative=negative)
    np.testing.assert_array_equal(latents[0].half().numpy(), target.latents)


def test_renders_are_those_of_stage_two(teacher: InstantMeshSystem) -> None:
    """The mesh of the stored latents, rendered and coloured as Stage II does, within a level."""
    target = made(teacher)
    model, reconstructor = teacher.models
    assert isinstance(reconstructor, InstantMesh)
    (row,) = TargetMaker(teacher, SETTINGS).make([target.condition], [target.seed])
    assert isinstance(row, MadeTarget)
    with torch.inference_mode():
        vae, clip = condition_pixels([target.condition], model.config)
        views = generate_views(model, (vae, clip), [target.seed], teacher.config.sampler)
        images = resize_views(views, reconstructor.config.input_size)
        planes = reconstructor.forward_planes(images, teacher.rig_cameras[None])
        wanted = render_mesh(
            get_rasterizer("auto", "cpu"),
            torch.from_numpy(gltf_to_world(row.mesh.vertices)),
            torch.from_numpy(row.mesh.faces).long(),
            torch.from_numpy(target.w2c),
            projection(target.fov_deg),
            SETTINGS.render_size,
            color_fn=lambda p: reconstructor.decoder.rgb(planes, p[None])[0].clamp(0, 1),
            antialias_color=True,
        )
    rgb, mask = over_white(target.renders)
    assert float((mask - wanted.mask).abs().max()) <= 0.51 / 255
    assert float((rgb - wanted.rgb).abs().max()) <= 1.01 / 255
    assert float(wanted.rgb.min()) < 0.8  # not an empty comparison


def test_an_empty_surface_is_a_bad_item(
    teacher: InstantMeshSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = BadItem("empty", reason=Reason.EMPTY_MESH, stage="extract")
    monkeypatch.setattr(teacher.models[1], "extract", lambda *_: [empty])
    assert make_target(teacher, condition(teacher), 1, SETTINGS) is empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": SamplerConfig(kind="euler_ancestral")}, "sampler"),
        ({"sampler": SamplerConfig(kind="one_step")}, "sampler"),
        ({"reconstructor": ReconstructorConfig(kind="nerf")}, "nerf"),
    ],
)
def test_a_teacher_whose_noise_does_not_decide_is_refused(
    change: dict[str, object], message: str
) -> None:
    check_teacher(InstantMeshConfig())
    with pytest.raises(ConfigError, match=message):
        check_teacher(replace(InstantMeshConfig(), **change))
