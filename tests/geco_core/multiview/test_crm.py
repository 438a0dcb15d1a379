"""Both stages as one model, and configurations whose parts do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from geco_core.config.crm import CrmDiffusionConfig
from geco_core.config.load import load, to_dict
from geco_core.diffusion.noise import ItemNoise
from geco_core.errors import BadItem, ConfigError, Reason
from geco_core.multiview.ccm import view_latents
from geco_core.multiview.crm import CrmDiffusion, check_diffusion
from geco_core.multiview.imagedream import ObjectCondition
from geco_core.multiview.ortho_views import frame_cameras
from tests.geco_core.multiview.crm_models import CRM, SAMPLER, seeded


def test_an_image_becomes_views_and_maps() -> None:
    model = seeded(CrmDiffusion, CRM)
    rgba = np.zeros((12, 20, 4), np.uint8)
    rgba[3:9, 4:16] = (200, 40, 90, 255)
    image = model.prepare(rgba)
    assert image.shape == (20, 20, 3)
    assert image[0, 0].tolist() == [127, 127, 127]
    found = model.generate([image], ItemNoise([5]))
    again = model.generate([image], ItemNoise([5]))
    assert found.views.shape == found.ccms.shape == (1, 6, 16, 16, 3)
    assert torch.equal(found.views, again.views)
    assert torch.equal(found.ccms, again.ccms)


def test_the_foreground_is_framed_only_where_that_is_configured() -> None:
    rgba = np.zeros((40, 60, 4), np.uint8)
    rgba[5:26, 2:13] = (200, 40, 90, 255)  # 21 rows, 11 columns, in a corner
    plain = seeded(CrmDiffusion, CRM).prepare(rgba)
    framed = seeded(CrmDiffusion, replace(CRM, foreground_ratio=0.5)).prepare(rgba)
    smaller = seeded(CrmDiffusion, replace(CRM, foreground_ratio=0.5, content_ratio=0.5)).prepare(
        rgba
    )

    def box(image: np.ndarray) -> list[int]:
        ys, xs = np.nonzero((image != 127).any(-1))
        return [int(v) for v in (ys.min(), ys.max() + 1, xs.min(), xs.max() + 1)]

    assert (plain.shape, box(plain)) == ((60, 60, 3), [15, 36, 2, 13])
    assert (framed.shape, box(framed)) == ((40, 40, 3), [10, 30, 15, 25])
    assert smaller.shape == (40, 40, 3)
    top, bottom, _, _ = box(smaller)
    assert bottom - top == pytest.approx(10, abs=2)
    model = seeded(CrmDiffusion, replace(CRM, foreground_ratio=0.5))
    with pytest.raises(BadItem) as caught:
        model.prepare(np.zeros((8, 8, 4), np.uint8))
    assert caught.value.reason is Reason.EMPTY_FOREGROUND


@torch.no_grad()
def test_nothing_stays_on_the_cpu() -> None:
    """Shapes without data, in bfloat16: a stray tensor is an error here, as it would be on CUDA."""
    with torch.device("meta"):
        model = CrmDiffusion(CRM).bfloat16()
    encoders, size = model.encoders, CRM.encoders.image_size
    text, negative = encoders.prompt_states()
    pixels = torch.empty(1, 3, size, size)
    states = encoders.image_states(torch.empty(1, 3, 8, 8))
    reference = encoders.latents(pixels, torch.empty(1, *encoders.latent_shape))
    condition = ObjectCondition(text, negative, states, reference)
    start = torch.empty(1, 7, *encoders.latent_shape)
    latents = model.views.sample(condition, frame_cameras(CRM.views.rig), start, SAMPLER)
    assert latents.device.type == "meta"
    assert latents.dtype == torch.float32
    levels = torch.empty(1, 6, size, size, 3, dtype=torch.uint8)
    maps = view_latents(encoders, levels, start[:, 1:])
    condition = ObjectCondition(text, negative, states, pixel_latents=maps)
    found = model.ccm.sample(condition, frame_cameras(CRM.ccm.rig), start[:, 1:], SAMPLER)
    assert encoders.images(found[0]).shape == (6, 3, size, size)


def test_the_published_configuration_fits() -> None:
    check_diffusion(CrmDiffusionConfig())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("encoders.image_size=18", "multiple of 4"),
        ("encoders.text.hidden_size=4", "cross_attention_dim is 8, the encoders give 4"),
        ("encoders.vision.hidden_size=4", "input_width is 16"),
        ("views.unet.out_channels=3", "out_channels is 3"),
        ("ccm.rig.views=[0]", "stage 2 wants"),
        ("ccm.rig.reference=true", "reference=True"),
        ("views.rig.kind=orbit", "axis-parallel"),
        ("ccm.unet.image_tokens=0", "image tokens"),
        ("ccm.pixel_latents=false", "pixel latents"),
        ("views_sampler.steps=1001", "1001 steps of 1000"),
        ("ccm_sampler.steps=500", "is pure noise"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_diffusion(load(CrmDiffusionConfig, to_dict(CRM), [change]))
