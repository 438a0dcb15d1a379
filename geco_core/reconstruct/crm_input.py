"""What CRM's reconstructor reads: six views and six coordinate maps as twelve channels.

Follows CRM (arXiv 2403.05034, section 3.2): every picture is turned so that its columns and rows
are axes of a triplane, opposite views are stacked, and three blocks lie side by side: xy, yz, zx.
Of a coordinate map only the coordinate along the view is kept, the depth that the block's axes do
not say. `crm_unet.InputNoise` then noises the result a little, at inference too.

Legend: B batch, V = 6 views in order 0..5, C colours, N pixels per side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geco_core.multiview.ortho_views import FRAME_VIEWS

# Views of the blocks xy, yz, zx: first group, second group.
_BLOCK_VIEWS = ((2, 5), (4, 1), (0, 3))
# Channel of each block's depth once a map's channels are reversed to z, y, x.
_DEPTH_CHANNELS = (0, 2, 1)


def network_input(views_BVCNN: Tensor, ccms_BVCNN: Tensor) -> Tensor:
    """The clean input [B, 12, N, 3 N] in [0, 1].

    Args:
        views_BVCNN: pictures in [0, 1], in view order.
        ccms_BVCNN: coordinate maps in [0, 1] (x, y, z), in view order.

    Returns:
        Channels: colours of group 0, colours of group 1, depth of group 0, depth of group 1. Each
        block's depth is in its own channel, the other two are 0. Groups are down, right, front and
        top, left, back.
    """
    depth = keep_depth(plane_blocks(ccms_BVCNN.flip(-3)))
    return torch.cat([plane_blocks(views_BVCNN), depth], dim=-3)


def strip_views(strip: Tensor) -> Tensor:
    """A strip uint8 [B, N, 6 N, 3] as values in [0, 1] [B, 6, 3, N, N] in view order.

    Strips hold the frames side by side: left, down, back, right, top, front.
    """
    side = strip.shape[-3]
    frames = strip.unflatten(-2, (len(FRAME_VIEWS), side))  # [B, N, 6, N, 3]
    return frame_values(frames.transpose(-4, -3))


def frame_values(frames: Tensor) -> Tensor:
    """Generated frames uint8 [B, 6, N, N, 3] as values in [0, 1] [B, 6, 3, N, N] in view order."""
    order = [FRAME_VIEWS.index(view) for view in range(len(FRAME_VIEWS))]
    values = frames.movedim(-1, -3).float() / 255.0
    return values[..., order, :, :, :]


def plane_blocks(views_BVCNN: Tensor) -> Tensor:
    """Pictures in view order -> [B, 2 C, N, 3 N].

    In every block the column is +first axis and the row +second axis of xy, yz, zx.
    """
    groups = []
    for group in range(2):
        blocks = [
            _turned(views_BVCNN[..., pair[group], :, :, :], pair[group]) for pair in _BLOCK_VIEWS
        ]
        groups.append(torch.cat(blocks, dim=-1))
    return torch.cat(groups, dim=-3)


def keep_depth(blocks_B6: Tensor) -> Tensor:
    """Only the depth channel of every block of reversed maps [B, 6, N, 3 N]; the others are 0."""
    side = blocks_B6.shape[-2]
    kept = torch.zeros_like(blocks_B6)
    for block, channel in enumerate(_DEPTH_CHANNELS):
        columns = slice(block * side, (block + 1) * side)
        for at in (channel, 3 + channel):
            kept[..., at, :, columns] = blocks_B6[..., at, :, columns]
    return kept


def shrink_content(views: Tensor, ratio: float, background: float) -> Tensor:
    """Pictures [..., C, N, N] shrunk about their centre over a uniform background, for training.

    Raises ValueError when the ratio leaves the frame.
    """
    side = views.shape[-1]
    inner = int(side * ratio)
    if not 1 <= inner <= side:
        raise ValueError(f"ratio {ratio} of {side} pixels is not within its frame")
    flat = views.flatten(0, -4) if views.ndim > 4 else views
    small = F.interpolate(flat, (inner, inner), mode="bilinear", align_corners=False)
    canvas = torch.full_like(flat, background)
    start = (side - inner) // 2
    canvas[..., start : start + inner, start : start + inner] = small
    return canvas.reshape(views.shape)


def _turned(picture: Tensor, view: int) -> Tensor:
    """A view with columns and rows along the positive axes of its block."""
    if view in (2, 4):  # down, right: half a turn
        return picture.flip(-1, -2)
    if view == 5:  # top: mirrored
        return picture.flip(-1)
    if view == 1:  # left: upside down
        return picture.flip(-2)
    if view == 0:  # front: half a turn, then x and z change places
        return picture.flip(-1, -2).transpose(-1, -2)
    return picture.flip(-2).transpose(-1, -2)  # back
