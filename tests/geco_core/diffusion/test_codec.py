"""The codecs: closed-form fit, round trips, posterior draws, affine constants."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geco_core.config.models import CodecConfig
from geco_core.diffusion.affine import LatentAffine
from geco_core.diffusion.codec import AutoencoderKLCodec, PatchCodec, build_codec

NEUTRAL = {"scaling_factor": 1.0, "latent_shift": 0.0, "latent_scale": 1.0, "image_scale": 1.0}
PATCH = CodecConfig(kind="patch", latent_channels=12, patch_size=4, **NEUTRAL)
KL = CodecConfig(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)


def smooth_images(count: int, generator: torch.Generator) -> Tensor:
    coarse = torch.rand(count, 3, 6, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (24, 16), mode="bicubic").clamp(0, 1)


def fitted(config: CodecConfig, images: Tensor) -> PatchCodec:
    codec = build_codec(config)
    assert isinstance(codec, PatchCodec)
    codec.fit(images)
    return codec


def test_patch_codec_round_trip_within_its_rank(generator: torch.Generator) -> None:
    images = smooth_images(16, generator)
    pixels = images * 2 - 1
    codec = fitted(PATCH, images)
    latents = codec.encode(pixels)
    assert latents.shape == (16, 12, 6, 4)
    error = float((codec.decode(latents) - pixels).square().mean())
    fewer = fitted(CodecConfig(kind="patch", latent_channels=3, patch_size=4, **NEUTRAL), images)
    worse = float((fewer.decode(fewer.encode(pixels)) - pixels).square().mean())
    assert error < 0.1 * worse


def test_patch_codec_with_all_components_is_exact(generator: torch.Generator) -> None:
    config = CodecConfig(kind="patch", latent_channels=48, patch_size=4, **NEUTRAL)
    images = torch.rand(8, 3, 24, 16, generator=generator)
    codec = fitted(config, images)
    pixels = images * 2 - 1
    torch.testing.assert_close(codec.decode(codec.encode(pixels)), pixels, rtol=0, atol=1e-5)


def test_patch_latents_are_centred_and_half_whitened(generator: torch.Generator) -> None:
    images = smooth_images(64, generator)
    latents = fitted(PATCH, images).encode(images * 2 - 1)
    channels = latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(12), rtol=0, atol=1e-4)
    assert float(channels.var(1).mean()) == pytest.approx(1.0, abs=1e-2)
    std = channels.std(1)
    assert (std[:-1] >= std[1:] - 1e-4).all()
    raw = (channels * fitted(PATCH, images).scale[:, None]).std(1)
    assert float(std[0] / std[-1]) == pytest.approx(float((raw[0] / raw[-1]) ** 0.5), rel=1e-3)


def test_a_fitted_state_loads_into_an_unfitted_codec(generator: torch.Generator) -> None:
    images = smooth_images(4, generator)
    codec, fresh = fitted(PATCH, images), build_codec(PATCH)
    pixels = images * 2 - 1
    assert float((fresh.encode(pixels) - codec.encode(pixels)).abs().max()) > 0.01
    fresh.load_state_dict(codec.state_dict())
    assert torch.equal(fresh.encode(pixels), codec.encode(pixels))


def test_patch_codec_ignores_autocast_and_noise(generator: torch.Generator) -> None:
    images = smooth_images(4, generator)
    codec = fitted(PATCH, images)
    with torch.autocast("cpu", torch.bfloat16):
        inside = codec.encode(images)
    assert torch.equal(inside, codec.encode(images))
    noise = torch.randn(inside.shape, generator=generator)
    assert torch.equal(codec.encode(images, noise), inside)


def test_autoencoder_draws_its_posterior(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    codec = build_codec(KL).eval()
    assert isinstance(codec, AutoencoderKLCodec)
    pixels = torch.randn(2, 3, 16, 16, generator=generator)
    with torch.no_grad():
        mean, std = codec.moments(pixels)
        noise = torch.randn(mean.shape, generator=generator)
        torch.testing.assert_close(codec.encode(pixels, noise), mean + std * noise)
        assert torch.equal(codec.encode(pixels), mean)
        assert codec.decode(mean).shape == pixels.shape
    assert mean.shape == (2, 4, 8, 8)
    assert codec.stride == 2


def test_affine_constants_of_the_published_model() -> None:
    affine = LatentAffine(CodecConfig())
    images = torch.linspace(0, 1, 5)
    torch.testing.assert_close(affine.pixels(images), (images - 0.5) / 0.8)
    torch.testing.assert_close(affine.images(affine.pixels(images)), images)
    raw = torch.linspace(-4, 4, 5)
    torch.testing.assert_close(affine.latents(raw), (raw * 0.18215 - 0.22) * 0.75)
    torch.testing.assert_close(affine.raw(affine.latents(raw)), raw)


def test_neutral_constants_leave_latents_alone() -> None:
    affine = LatentAffine(PATCH)
    x = torch.linspace(-1, 1, 5)
    assert torch.equal(affine.latents(x), x)
    assert torch.equal(affine.raw(x), x)
    torch.testing.assert_close(affine.pixels((x + 1) / 2), x)
