"""Geometric initialisation of a reconstructor that is to be trained from scratch.

Not part of the published model, whose encoder starts from a pretrained ViT. The published position
tables start as noise and the camera modulation at zero, so a small model must first discover where
its patches and cells are; this module tells it, using parameters the published architecture already
has (every state-dict name and shape stays):

1. Triplane tokens become random Fourier features (arXiv 2006.10739) of each cell's 3-D position and
   plane; patch positions become Fourier features plus a few raw coordinate channels.
2. Patches are told apart by view, and cross-attention starts at the projections of each cell, see
   `geco_core.reconstruct.alignment`.
3. The deconvolution is scaled so that planes start with unit variance, and the ReLU layers of the
   point heads get He initialisation; with torch's defaults the heads start almost constant.

Everything remains trainable. Image coordinates are in [-1, 1], row 0 at the top; world frame as in
`geco_core.cameras`.

Legend: V views, L tokens per view, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geco_core.cameras import encoder_cameras, rig_poses
from geco_core.config.models import ViewRigConfig
from geco_core.fields.decoders import HeadMLP
from geco_core.reconstruct.alignment import (
    CLASS_LOGIT,
    align_attention,
    attention_width,
    cell_positions,
    fourier_features,
    patch_positions,
    require_room,
    separate_views,
)
from geco_core.reconstruct.encoder import CameraEncoder, normalise_images
from geco_core.reconstruct.planes import PlanesModel
from geco_core.reconstruct.triplane_transformer import TriplaneTransformer

PATCH_BANDWIDTH = 3.0  # standard deviation of the angular frequencies, radians per image half-width
CELL_BANDWIDTH = 2.5  # radians per world unit
CONTENT_GAIN = 0.5  # a patch's deviation from white against its position


@torch.no_grad()
def fourier_init(
    model: PlanesModel, rig: ViewRigConfig, *, seed: int = 0, align: bool = True
) -> None:
    """Initialise a reconstructor with the geometry of its cells, patches and cameras, in place.

    Args:
        model: a freshly built reconstructor on the CPU.
        rig: the cameras it will be trained with.
        seed: of every random number drawn here.
        align: also do step 2. It needs room: 6 V + 2 encoder channels besides some for content,
            6 V + 2 MLP units, and heads of at least 3 V + 1.

    Raises:
        ValueError: `align` with a model too narrow for the number of views.
    """
    generator = torch.Generator().manual_seed(seed)
    views = len(rig.azimuths_deg)
    model.transformer.pos_embed.copy_(_cell_features(model.transformer, generator)[None])
    _restore_variance(model, generator)
    if not align:
        _write_patch_table(model.encoder, 0, generator)
        return
    require_room(model, views)
    _write_patch_table(model.encoder, views, generator)
    cameras = encoder_cameras(rig_poses(rig), rig.fov_deg)
    separate_views(model.encoder, cameras)
    align_attention(model, rig, cameras, generator)


def _restore_variance(model: PlanesModel, generator: torch.Generator) -> None:
    """Unit variance of planes and hidden activations."""
    deconv = model.transformer.deconv
    deconv.weight.copy_(
        torch.randn(deconv.weight.shape, generator=generator) * deconv.in_channels**-0.5
    )
    for head in model.modules():
        if isinstance(head, HeadMLP):
            for layer in list(head)[:-1]:
                if isinstance(layer, nn.Linear):
                    noise = torch.randn(layer.weight.shape, generator=generator)
                    layer.weight.copy_(noise * (2.0 / layer.in_features) ** 0.5)


def _cell_features(transformer: TriplaneTransformer, generator: torch.Generator) -> Tensor:
    low, width = transformer.low, transformer.pos_embed.shape[-1]
    cells = cell_positions(low).flatten(1, 2)  # [3, low * low, 3]
    # A frequency of its own per plane keeps equal positions of different planes apart.
    planes = torch.eye(3)[:, None].expand(-1, low * low, -1)
    return fourier_features(
        torch.cat([cells, planes], -1).flatten(0, 1), width, CELL_BANDWIDTH, generator
    )


def _write_patch_table(encoder: CameraEncoder, views: int, generator: torch.Generator) -> None:
    """Position table and class token.

    V copies of x, of y and of 1, then |p|^2, 3 V + 1 empty channels, Fourier features.
    """
    embeddings = encoder.model.embeddings
    table = embeddings.position_embeddings
    patches = patch_positions(round((table.shape[1] - 1) ** 0.5))
    reserved = 6 * views + 2 if views else 0
    free = table.shape[2] - reserved
    table.zero_()
    table[0, 1:, reserved:] = fourier_features(patches, free, PATCH_BANDWIDTH, generator)
    embeddings.cls_token.zero_()
    embeddings.cls_token[..., reserved:] = torch.randn(free, generator=generator)
    if views:
        raw = torch.cat([patches, torch.ones(len(patches), 1)], -1)  # [L - 1, 3]
        table[0, 1:, : 3 * views] = raw.repeat_interleave(views, -1)
        table[0, 1:, 3 * views] = patches.square().sum(-1)
        embeddings.cls_token[..., 3 * views] = -CLASS_LOGIT * 2 * attention_width(encoder) ** 2
    _write_patch_projection(encoder, reserved, generator)
    # Layer norm subtracts a token's mean: at zero the reserved channels pass unchanged.
    for tokens in (table, embeddings.cls_token):
        tokens[..., reserved:] -= tokens.sum(-1, keepdim=True) / free


def _write_patch_projection(
    encoder: CameraEncoder, reserved: int, generator: torch.Generator
) -> None:
    """Random projections of a patch's deviation from white into the free channels.

    Their mean over those channels is zero.
    """
    conv = encoder.model.embeddings.patch_embeddings["projection"]
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    weight = torch.randn(conv.weight.shape, generator=generator) * (
        CONTENT_GAIN * conv.weight[0].numel() ** -0.5
    )
    weight[:reserved] = 0
    weight[reserved:] -= weight[reserved:].mean(0)
    conv.weight.copy_(weight)
    white = normalise_images(torch.ones_like(weight[:1]))
    conv.bias.copy_(-(weight * white).sum((1, 2, 3)))
