"""The network: published size, where noise and learned channels enter, what t does."""

from __future__ import annotations

import torch

from geco_core.config.crm_reconstructor import CrmReconstructorConfig, CrmUNetConfig
from geco_core.diffusion.noise import ItemNoise
from geco_core.reconstruct.crm_unet import CrmUNet, InputNoise, planes_of
from tests.geco_core.reconstruct.crm_models import TINY, tiny_crm


def test_the_published_network_has_its_published_size() -> None:
    with torch.device("meta"):
        model = CrmUNet(CrmUNetConfig())
    assert sum(p.numel() for p in model.network.parameters()) == 114_204_192
    assert model.learned_plane.shape == (1, 20, 256, 768)


def test_learned_channels_follow_the_images() -> None:
    unet = tiny_crm().unet
    images = torch.rand(2, 12, 16, 48)
    seen = []
    unet.network.conv_in.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    out = unet(images, 20)
    assert out.shape == (2, 8, 16, 48)
    assert torch.equal(seen[0][:, :12], images)
    assert torch.equal(seen[0][:, 12:], unet.learned_plane.expand(2, -1, -1, -1))


def test_the_network_knows_the_time_of_each_sample() -> None:
    unet, images = tiny_crm().unet, torch.rand(1, 12, 16, 48).expand(2, -1, -1, -1)
    early, late = unet(images, torch.tensor([20, 256]))
    assert (early - late).abs().max() > 1e-3
    torch.testing.assert_close(unet(images[:1], 256)[0], late, atol=1e-5, rtol=1e-4)


def test_noising_uses_the_published_factors() -> None:
    noise = InputNoise(CrmReconstructorConfig())
    torch.testing.assert_close(noise.alpha_cumprod, torch.tensor(0.9813143), atol=5e-8, rtol=0)
    images, draw = torch.rand(1, 12, 4, 12), torch.randn(1, 12, 4, 12)
    expected = 0.9906131 * images + 0.1366956 * (0.5 * draw + 0.5)
    torch.testing.assert_close(noise.add(images, draw), expected, atol=2e-7, rtol=1e-6)


def test_noise_belongs_to_the_item() -> None:
    noise = InputNoise(TINY)
    pair, alone = noise.draw(ItemNoise([5, 9])), noise.draw(ItemNoise([9]))
    assert pair.shape == (2, 12, 16, 48)
    assert torch.equal(pair[1:], alone)


def test_planes_are_the_thirds_of_the_output() -> None:
    unet, noised = tiny_crm().unet, torch.rand(1, 12, 16, 48)
    planes = planes_of(unet, noised, 20)
    assert torch.equal(planes[:, 1], unet(noised, 20)[..., 16:32])
