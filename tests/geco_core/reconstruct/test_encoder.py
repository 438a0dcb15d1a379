"""Image encoder: positions, camera modulation."""

from __future__ import annotations

import torch

from geco_core.reconstruct.encoder import CameraEncoder, normalise_images, resize_positions


def test_fitting_table_is_used_as_it_is() -> None:
    table = torch.randn(1, 17, 8)
    assert resize_positions(table, 4, 4) is table


def test_other_grids_are_resized_with_the_published_offset() -> None:
    table = torch.randn(1, 17, 8)
    resized = resize_positions(table, 6, 5)
    assert resized.shape == (1, 31, 8)
    torch.testing.assert_close(resized[:, 0], table[:, 0])
    grid = table[:, 1:].transpose(1, 2).view(1, 8, 4, 4)
    plain = torch.nn.functional.interpolate(grid, size=(6, 5), mode="bicubic")
    difference = (resized[:, 1:].transpose(1, 2).view(1, 8, 6, 5) - plain).abs().max()
    assert 1e-4 < float(difference) < 1.0
    # The same count of tokens in another shape is not the same grid.
    assert not torch.equal(resize_positions(table, 2, 8), table)


def test_normalisation_is_imagenets() -> None:
    images = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(normalise_images(images), torch.zeros(1, 3, 4, 4))


def test_camera_matters_only_through_the_modulation(tiny_config) -> None:
    torch.manual_seed(0)
    encoder = CameraEncoder(tiny_config.encoder)
    images = torch.rand(1, 2, 3, 32, 32)
    one, other = torch.randn(1, 2, 16), torch.randn(1, 2, 16)
    torch.testing.assert_close(encoder(images, one), encoder(images, other))
    with torch.no_grad():
        torch.nn.init.normal_(encoder.model.layers[0].adaLN_modulation[1].weight, std=0.5)
    assert (encoder(images, one) - encoder(images, other)).abs().max() > 1e-3


def test_views_are_encoded_apart(tiny_config) -> None:
    torch.manual_seed(0)
    encoder = CameraEncoder(tiny_config.encoder)
    images, cameras = torch.rand(2, 3, 3, 32, 32), torch.randn(2, 3, 16)
    whole = encoder(images, cameras)
    assert whole.shape == (6, 17, 64)
    torch.testing.assert_close(
        encoder(images[1:, 2:], cameras[1:, 2:])[0], whole[5], atol=1e-5, rtol=1e-5
    )
