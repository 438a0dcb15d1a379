"""Geometric initialisation of a reconstructor that is to be trained from scratch.

Not part of the published model, whose encoder starts from a pretrained ViT. The published position tables start as
noise and the camera modulation at zero, so a small model must first discover where its patches and cells are; this
module tells it, using parameters the published architecture already has (every state-dict name and shape stays):

1. Triplane tokens become random Fourier features (arXiv 2006.10739) of each cell's 3-D position and plane.
2. Patch positions become Fourier features plus a few raw coordinate channels. The position table is shared by all
   views, so per-view geometry enters through the camera: the first layer's modulation is solved so that, for the
   cameras of the rig, it multiplies the coordinate channels by a one-hot of the view, and that layer's MLP copies
   the products (gelu(z) - gelu(-z) = z) to channels of their own. After it a token knows its patch and its view.
3. The query and key projections of every cross-attention are fitted by ridge regression, on random images, so that
   head h of a layer attends, in every view v, to patches p around the projection a_v of one 3-D point of the cell:
   logit = -|a_v - p|^2 / (2 sigma^2) = (2 a_v . p - |a_v|^2 - |p|^2) / (2 sigma^2), which has rank 3 V + 1 and so
   fits a head. The heads of all layers spread over the depths that a cell's column covers.

4. The deconvolution is scaled so that planes start with unit variance, and ReLU layers of the point heads get He
   initialisation; with torch's defaults the heads start almost constant.

Everything remains trainable. Image coordinates are in [-1, 1], row 0 at the top; world frame as in `cameras`.

Legend: V views, L tokens per view, T plane tokens, D width, h heads, d head width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geco_core.cameras import clip_from_world, encoder_cameras, projection, rig_poses, world_to_camera
from geco_core.config.models import ViewRigConfig
from geco_core.fields.decoders import HeadMLP
from geco_core.fields.triplane import PLANE_AXES
from geco_core.reconstruct.encoder import CameraEncoder, normalise_images
from geco_core.reconstruct.planes import PlanesModel
from geco_core.reconstruct.triplane_transformer import TriplaneTransformer

PATCH_BANDWIDTH = 3.0  # standard deviation of the angular frequencies, radians per image half-width
CELL_BANDWIDTH = 2.5  # radians per world unit
DEPTH_RANGE = 0.75  # depths along a cell's column span [-0.75, 0.75] world units
SIGMA_PATCHES = 0.6  # width of the initial attention in patches
CLASS_LOGIT = -3.0  # logit of the class tokens, against 0 at the projected point
RIDGE = 1e-4
CONTENT_GAIN = 0.5
COPY_GAIN = 2.0
CALIBRATION_OBJECTS = 4
RANDOM_GAIN = 0.3  # what is left of the random projection in dimensions that the fit does not use


@torch.no_grad()
def fourier_init(model: PlanesModel, rig: ViewRigConfig, *, seed: int = 0, align: bool = True) -> None:
    """Initialise a reconstructor with the geometry of its cells, patches and cameras, in place.

    Args:
        model: a freshly built reconstructor on the CPU.
        rig: the cameras it will be trained with.
        seed: of every random number drawn here.
        align: also do steps 2 and 3 (views and attention). They need room: 6 V + 2 encoder channels besides some
            for content, 6 V + 2 MLP units, and heads of at least 3 V + 1; without it only Fourier tables are written.

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
    _require_room(model, views)
    _write_patch_table(model.encoder, views, generator)
    cameras = encoder_cameras(rig_poses(rig), rig.fov_deg)
    _separate_views(model.encoder, cameras)
    _align_attention(model, rig, cameras, generator)


def _restore_variance(model: PlanesModel, generator: torch.Generator) -> None:
    """Unit variance of planes and hidden activations."""
    deconv = model.transformer.deconv
    deconv.weight.copy_(torch.randn(deconv.weight.shape, generator=generator) * deconv.in_channels**-0.5)
    for head in model.modules():
        if isinstance(head, HeadMLP):
            for layer in list(head)[:-1]:
                if isinstance(layer, nn.Linear):
                    noise = torch.randn(layer.weight.shape, generator=generator)
                    layer.weight.copy_(noise * (2.0 / layer.in_features) ** 0.5)


def cell_positions(low: int) -> Tensor:
    """World positions [3, low, low, 3] of the triplane cells' centres; the axis a plane lacks is 0."""
    centres = (torch.arange(low) + 0.5) / low * 2 - 1
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    positions = torch.zeros(3, low, low, 3)
    for plane, (column_axis, row_axis) in enumerate(PLANE_AXES):
        positions[plane, ..., column_axis] = columns
        positions[plane, ..., row_axis] = rows
    return positions


def patch_positions(side: int) -> Tensor:
    """Image coordinates [side * side, 2] (x right, y down, in [-1, 1]) of the patch centres, row-major."""
    centres = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([columns, rows], -1).flatten(0, 1)


def _fourier(positions: Tensor, width: int, bandwidth: float, generator: torch.Generator) -> Tensor:
    """cos(B p + b) with random B and b: [N, width]."""
    frequencies = torch.randn(positions.shape[-1], width, generator=generator) * bandwidth
    phases = torch.rand(width, generator=generator) * (2 * math.pi)
    return torch.cos(positions @ frequencies + phases)


def _cell_features(transformer: TriplaneTransformer, generator: torch.Generator) -> Tensor:
    low, width = transformer.low, transformer.pos_embed.shape[-1]
    cells = cell_positions(low).flatten(1, 2)  # [3, low * low, 3]
    # A frequency of its own per plane keeps equal positions of different planes apart.
    planes = torch.eye(3)[:, None].expand(-1, low * low, -1)
    return _fourier(torch.cat([cells, planes], -1).flatten(0, 1), width, CELL_BANDWIDTH, generator)


def _require_room(model: PlanesModel, views: int) -> None:
    config = model.config
    head = config.transformer_dim // config.transformer_heads
    channels = config.encoder.hidden_size - (6 * views + 2)
    if head < 3 * views + 1 or channels < 3 * views or config.encoder.intermediate_size < 6 * views + 2:
        raise ValueError(
            f"aligned initialisation for {views} views needs heads of {3 * views + 1} (got {head}), an encoder of "
            f"{9 * views + 2} channels (got {config.encoder.hidden_size}) and an MLP of {6 * views + 2}: use align=False"
        )


def _sigma(encoder: CameraEncoder) -> float:
    """Width of the initial attention in image coordinates."""
    patches = encoder.model.embeddings.position_embeddings.shape[1] - 1
    return SIGMA_PATCHES * 2 / patches**0.5


def _write_patch_table(encoder: CameraEncoder, views: int, generator: torch.Generator) -> None:
    """Position table: V copies of x, of y and of 1, then |p|^2, 3 V + 1 empty channels, Fourier features."""
    embeddings = encoder.model.embeddings
    table = embeddings.position_embeddings
    patches = patch_positions(round((table.shape[1] - 1) ** 0.5))
    reserved = 6 * views + 2 if views else 0
    free = table.shape[2] - reserved
    table.zero_()
    table[0, 1:, reserved:] = _fourier(patches, free, PATCH_BANDWIDTH, generator)
    embeddings.cls_token.zero_()
    embeddings.cls_token[..., reserved:] = torch.randn(free, generator=generator)
    if views:
        raw = torch.cat([patches, torch.ones(len(patches), 1)], -1)  # [L - 1, 3]
        table[0, 1:, : 3 * views] = raw.repeat_interleave(views, -1)
        table[0, 1:, 3 * views] = patches.square().sum(-1)
        embeddings.cls_token[..., 3 * views] = -CLASS_LOGIT * 2 * _sigma(encoder) ** 2
    _write_patch_projection(encoder, reserved, generator)
    # Layer norm subtracts a token's mean: keep it zero, so that the reserved channels pass unchanged.
    for tokens in (table, embeddings.cls_token):
        tokens[..., reserved:] -= tokens.sum(-1, keepdim=True) / free


def _write_patch_projection(encoder: CameraEncoder, reserved: int, generator: torch.Generator) -> None:
    """Random projections of a patch's deviation from white into the free channels, with zero mean over them."""
    conv = encoder.model.embeddings.patch_embeddings["projection"]
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    weight = torch.randn(conv.weight.shape, generator=generator) * (CONTENT_GAIN * conv.weight[0].numel() ** -0.5)
    weight[:reserved] = 0
    weight[reserved:] -= weight[reserved:].mean(0)
    conv.weight.copy_(weight)
    white = normalise_images(torch.ones(1, 3, *conv.kernel_size))
    conv.bias.copy_(-(weight * white).sum((1, 2, 3)))


def _separate_views(encoder: CameraEncoder, cameras: Tensor) -> None:
    """First layer: multiply the coordinate channels by a one-hot of the view and copy them aside."""
    views, width = len(cameras), encoder.model.embeddings.cls_token.shape[-1]
    count = 3 * views + 1
    hidden = F.silu(encoder.embed_cameras(cameras))  # [V, D]
    wanted = torch.cat([(torch.eye(views) - 1).repeat(1, 3), torch.zeros(views, 1)], 1)  # scale2: [V, 3V + 1]
    centre = hidden.mean(0)
    weight = torch.linalg.lstsq(hidden - centre, wanted - wanted.mean(0), driver="gelsd").solution
    modulation = encoder.model.layers[0].adaLN_modulation[1]
    modulation.weight[3 * width : 3 * width + count] = weight.T
    modulation.bias[3 * width : 3 * width + count] = wanted.mean(0) - centre @ weight
    for layer in encoder.model.layers:  # nothing else writes to the copies
        layer.attention["output"]["dense"].weight[count : 2 * count] = 0
        layer.output["dense"].weight[count : 2 * count] = 0
    inner, outer = encoder.model.layers[0].intermediate["dense"], encoder.model.layers[0].output["dense"]
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
    """[T, h, 3V + 1]: (2 a_v, -|a_v|^2, -1) / (2 sigma^2) for the cell's point at each head's depth."""
    heads = len(depths)
    points = cell_positions(low)[..., None, :].repeat(1, 1, 1, heads, 1)  # [3, low, low, h, 3]
    for plane, axes in enumerate(PLANE_AXES):
        points[plane, ..., ({0, 1, 2} - set(axes)).pop()] = depths
    clip = clip_from_world(points.view(-1, 3), world_to_camera(rig_poses(rig)), projection(rig.fov_deg))
    target = (clip[..., :2] / clip[..., 3:]).clamp(-1.2, 1.2)  # [V, T * h, 2]
    parts = [2 * target[..., 0], 2 * target[..., 1], -target.square().sum(-1), -torch.ones_like(clip[:1, :, 0])]
    return torch.cat(parts).T.reshape(-1, heads, 3 * len(clip) + 1) / (2 * sigma**2)


def _ridge(inputs: Tensor, targets: Tensor) -> Tensor:
    """W [targets, inputs] of least |x W^T - y|^2 + ridge |W|^2; the ridge is relative to the inputs' power."""
    x, y = inputs.flatten(0, -2).double(), targets.flatten(0, -2).double()
    gram = x.T @ x
    gram += torch.eye(len(gram)) * (RIDGE * gram.diagonal().mean())
    return torch.linalg.solve(gram, x.T @ y).T.float()


def _align_attention(
    model: PlanesModel, rig: ViewRigConfig, cameras: Tensor, generator: torch.Generator
) -> None:
    """Fit queries and keys layer by layer, on the activations that each layer really sees."""
    views, layers = len(cameras), model.transformer.layers
    images = _calibration_images(model, views, generator)
    features = model.encoder(images, cameras.expand(len(images), -1, -1))
    # Layer norms scale a token's copies by a common factor, which scales its logits: harmless, they peak at 0.
    count, patches = 3 * views + 1, features[:, 1:]
    key_weight = torch.zeros(count, features.shape[-1])
    key_weight[:, count : 2 * count] = torch.eye(count) / patches[..., count + 2 * views : 2 * count - 1].sum(-1).mean()
    sigma = _sigma(model.encoder)
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
        layer.mlp[3].weight *= len(layers) ** -0.5
        tokens = layer(tokens, features.reshape(len(images), -1, features.shape[-1]))


def _write_heads(projection_weight: Tensor, rows: Tensor) -> None:
    """Put fitted rows [h, r, D] at the start of each head of a projection [h * d, D].

    Both sides get d^(1/4), which cancels attention's 1 / sqrt(d).
    """
    heads, rank = rows.shape[:2]
    per_head = projection_weight.unflatten(0, (heads, -1))
    per_head *= RANDOM_GAIN
    per_head[:, :rank] = rows * per_head.shape[1] ** 0.25
