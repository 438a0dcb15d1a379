"""Cross-attention that starts pixel-aligned: every triplane cell looks at its own projections.

Ours; a feed-forward reconstructor (arXiv 2404.07191) has to learn this correspondence. Two solved
pieces, both within parameters of the published architecture:

* Views. The position table is shared by all views, so per-view geometry must enter through the
  camera: the first layer's modulation is solved so that, for the cameras of the rig, it multiplies
  coordinate channels by a one-hot of the view, and that layer's MLP copies the products to channels
  of their own (gelu(z) - gelu(-z) = z). After it, a token knows its patch and its view.
* Attention. The query projections of every cross-attention are fitted by ridge regression, on
  random images, so that a head attends, in every view v, to patches p around the projection a_v of
  one 3-D point of the cell. The logit -|a_v - p|^2 / (2 sigma^2) equals
  (2 a_v . p - |a_v|^2 - |p|^2) / (2 sigma^2), a product of rank 3 V + 1, which fits a head. The
  heads of all layers spread over the depths that a cell's column covers.

Image coordinates are in [-1, 1], x right, y down; world frame as in `geco_core.cameras`.

Legend: V views, L tokens per view, T plane tokens, D width, h heads, d head width, r = 3 V + 1.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geco_core.cameras import clip_from_world, projection, rig_poses, world_to_camera
from geco_core.config.models import ViewRigConfig
from geco_core.fields.triplane import PLANE_AXES
from geco_core.reconstruct.encoder import CameraEncoder
from geco_core.reconstruct.planes import PlanesModel

DEPTH_RANGE = 0.75  # depths along a cell's column span [-0.75, 0.75] world units
SIGMA_PATCHES = 0.6  # width of the initial attention in patches
CLASS_LOGIT = -3.0  # logit of the class tokens, against 0 at the projected point
RIDGE = 1e-4
COPY_GAIN = 2.0
CALIBRATION_OBJECTS = 4
RANDOM_GAIN = 0.3  # what is left of the random projection in dimensions that the fit does not use


def cell_positions(low: int) -> Tensor:
    """World positions [3, low, low, 3] of the triplane cells' centres.

    The axis a plane lacks is 0.
    """
    centres = (torch.arange(low) + 0.5) / low * 2 - 1
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    positions = torch.zeros(3, low, low, 3)
    for plane, (column_axis, row_axis) in enumerate(PLANE_AXES):
        positions[plane, ..., column_axis] = columns
        positions[plane, ..., row_axis] = rows
    return positions


def patch_positions(side: int) -> Tensor:
    """Image coordinates [side * side, 2] of the patch centres, row-major.

    x right, y down, in [-1, 1].
    """
    centres = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([columns, rows], -1).flatten(0, 1)


def fourier_features(
    positions: Tensor, width: int, bandwidth: float, generator: torch.Generator
) -> Tensor:
    """cos(B p + b) with random B and b: [N, width]."""
    frequencies = torch.randn(positions.shape[-1], width, generator=generator) * bandwidth
    phases = torch.rand(width, generator=generator) * (2 * math.pi)
    return torch.cos(positions @ frequencies + phases)


def attention_width(encoder: CameraEncoder) -> float:
    """Width of the initial attention in image coordinates."""
    patches = encoder.model.embeddings.position_embeddings.shape[1] - 1
    return SIGMA_PATCHES * 2 / patches**0.5


def require_room(model: PlanesModel, views: int) -> None:
    """Raise ValueError where `separate_views` and `align_attention` would not fit."""
    config = model.config
    head = config.transformer_dim // config.transformer_heads
    channels = config.encoder.hidden_size - (6 * views + 2)
    if (
        head < 3 * views + 1
        or channels < 3 * views
        or config.encoder.intermediate_size < 6 * views + 2
    ):
        raise ValueError(
            f"aligned start for {views} views needs heads of {3 * views + 1} (got {head}), "
            f"an encoder of {9 * views + 2} channels (got {config.encoder.hidden_size}) and an MLP "
            f"of {6 * views + 2} (got {config.encoder.intermediate_size}): use align=False"
        )


def separate_views(encoder: CameraEncoder, cameras: Tensor) -> None:
    """First layer: coordinate channels times a one-hot of the view, copied aside."""
    views, width = len(cameras), encoder.model.embeddings.cls_token.shape[-1]
    count = 3 * views + 1
    hidden = F.silu(encoder.embed_cameras(cameras))  # [V, D]
    wanted = torch.cat(
        [(torch.eye(views) - 1).repeat(1, 3), torch.zeros(views, 1)], 1
    )  # scale2: [V, 3V + 1]
    centre = hidden.mean(0)
    weight = torch.linalg.lstsq(hidden - centre, wanted - wanted.mean(0), driver="gelsd").solution
    layers = encoder.model.layers
    modulation = _linear(layers[0].adaLN_modulation[1])
    modulation.weight[3 * width : 3 * width + count] = weight.T
    modulation.bias[3 * width : 3 * width + count] = wanted.mean(0) - centre @ weight
    for layer in layers:  # nothing else writes to the copies
        for branch in (layer.attention.output, layer.output):
            _linear(branch["dense"]).weight[count : 2 * count] = 0
    inner, outer = _linear(layers[0].intermediate["dense"]), _linear(layers[0].output["dense"])
    pair = torch.cat([torch.eye(count), -torch.eye(count)])  # gelu(z) - gelu(-z) = z
    inner.weight[: 2 * count] = 0
    inner.weight[: 2 * count, :count] = pair
    outer.weight[count : 2 * count, : 2 * count] = COPY_GAIN * pair.T
    free = width - 2 * count
    outer.weight[2 * count :, : 2 * count] = (-COPY_GAIN / free) * pair.sum(1)


def _calibration_images(model: PlanesModel, views: int, generator: torch.Generator) -> Tensor:
    """Random coloured blobs on white: [CALIBRATION_OBJECTS, V, 3, S, S] in [0, 1]."""
    size = model.config.input_size
    count = CALIBRATION_OBJECTS * views
    coarse = torch.rand(count, 4, 5, 5, generator=generator)
    smooth = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    images = torch.where(smooth[:, 3:] > 0.55, smooth[:, :3], 1.0)
    return images.unflatten(0, (CALIBRATION_OBJECTS, views))


def _wanted_queries(low: int, rig: ViewRigConfig, depths: Tensor, sigma: float) -> Tensor:
    """Queries [T, h, 3V + 1] for the point of a cell at each head's depth.

    (2 a_v, -|a_v|^2, -1) / (2 sigma^2).
    """
    heads = len(depths)
    points = cell_positions(low)[..., None, :].repeat(1, 1, 1, heads, 1)  # [3, low, low, h, 3]
    for plane, axes in enumerate(PLANE_AXES):
        points[plane, ..., ({0, 1, 2} - set(axes)).pop()] = depths
    clip = clip_from_world(
        points.view(-1, 3), world_to_camera(rig_poses(rig)), projection(rig.fov_deg)
    )
    target = (clip[..., :2] / clip[..., 3:]).clamp(-1.2, 1.2)  # [V, T * h, 2]
    parts = [
        2 * target[..., 0],
        2 * target[..., 1],
        -target.square().sum(-1),
        -torch.ones_like(clip[:1, :, 0]),
    ]
    return torch.cat(parts).T.reshape(-1, heads, 3 * len(clip) + 1) / (2 * sigma**2)


def _ridge(inputs: Tensor, targets: Tensor) -> Tensor:
    """W [targets, inputs] of least |x W^T - y|^2 + ridge |W|^2.

    The ridge is relative to the inputs' power.
    """
    x, y = inputs.flatten(0, -2).double(), targets.flatten(0, -2).double()
    gram = x.T @ x
    gram += torch.eye(len(gram)) * (RIDGE * gram.diagonal().mean())
    return torch.linalg.solve(gram, x.T @ y).T.float()


def align_attention(
    model: PlanesModel, rig: ViewRigConfig, cameras: Tensor, generator: torch.Generator
) -> None:
    """Fit queries and keys layer by layer, on the activations that each layer really sees."""
    views, layers = len(cameras), model.transformer.blocks
    images = _calibration_images(model, views, generator)
    features = model.encoder(images, cameras.expand(len(images), -1, -1))
    # Layer norms scale a token's copies, hence its logits: harmless, as they peak at 0.
    count, patches = 3 * views + 1, features[:, 1:]
    key_weight = torch.zeros(count, features.shape[-1])
    key_weight[:, count : 2 * count] = (
        torch.eye(count) / patches[..., count + 2 * views : 2 * count - 1].sum(-1).mean()
    )
    sigma = attention_width(model.encoder)
    tokens = model.transformer.pos_embed.expand(len(images), -1, -1)
    heads = model.config.transformer_heads
    for index, layer in enumerate(layers):
        steps = (torch.arange(heads) + (index + 0.5) / len(layers)) / heads
        queries = _wanted_queries(model.transformer.low, rig, (steps * 2 - 1) * DEPTH_RANGE, sigma)
        inputs = layer.norm1(tokens)
        query_weight = _ridge(inputs, queries.flatten(1).expand(len(images), -1, -1))
        _write_heads(layer.cross_attn.query_weight(), query_weight.unflatten(0, (heads, -1)))
        _write_heads(layer.cross_attn.key_weight(), key_weight.expand(heads, -1, -1))
        # Small residual branches keep the positions legible to the layers after.
        layer.cross_attn.out_proj.weight *= len(layers) ** -0.5
        layer.self_attn.out_proj.weight *= len(layers) ** -0.5
        _linear(layer.mlp[3]).weight *= len(layers) ** -0.5
        tokens = layer(tokens, features.reshape(len(images), -1, features.shape[-1]))


def _write_heads(projection_weight: Tensor, rows: Tensor) -> None:
    """Put fitted rows [h, r, D] at the start of each head of a projection [h * d, D].

    Both sides get d^(1/4), which cancels attention's 1 / sqrt(d).
    """
    heads, rank = rows.shape[:2]
    per_head = projection_weight.unflatten(0, (heads, -1))
    per_head *= RANDOM_GAIN
    per_head[:, :rank] = rows * per_head.shape[1] ** 0.25


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module
