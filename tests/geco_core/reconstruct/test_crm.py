"""The whole reconstruction half on tiny sizes."""

from __future__ import annotations

from dataclasses import replace

import torch

from geco_core.diffusion.noise import ItemNoise
from geco_core.reconstruct.crm_unet import planes_of
from tests.geco_core.reconstruct.crm_models import TINY, tiny_crm


def test_images_are_noised_to_the_configured_time() -> None:
    model = tiny_crm()
    images, noise = torch.rand(2, 12, 16, 48), torch.randn(2, 12, 16, 48)
    planes = model.forward_planes(images, noise)
    assert planes.shape == (2, 3, 8, 16, 16)
    expected = planes_of(model.unet, model.input_noise.add(images, noise), 20)
    assert torch.equal(planes, expected)
    later = tiny_crm(replace(TINY, timestep=500)).forward_planes(images, noise)
    assert (later - planes).abs().max() > 1e-3


def test_an_item_does_not_depend_on_its_batch() -> None:
    model, images = tiny_crm(), torch.rand(2, 12, 16, 48)
    both = model.forward_planes(images, model.input_noise.draw(ItemNoise([1, 2])))
    alone = model.forward_planes(images[1:], model.input_noise.draw(ItemNoise([2])))
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


def test_a_loss_on_the_mesh_reaches_every_part() -> None:
    model = tiny_crm()
    planes = model.forward_planes(torch.rand(1, 12, 16, 48), torch.randn(1, 12, 16, 48))
    shape = model.geometry(planes, True)
    (shape.vertices[0].square().sum() + shape.surface_reg + shape.weight_reg).backward()
    for parameter in (
        model.unet.learned_plane,
        model.unet.network.conv_in.weight,
        model.decoder.geometry_head[0].weight,
        model.decoder.weight_head[0].weight,
    ):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
