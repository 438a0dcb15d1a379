"""Training frames of CRM: any of the six views taken as the front, coordinate maps turned with it.

Follows CRM (arXiv 2403.05034, data augmentation). Choosing another front turns the object by a
multiple of 90 degrees: views change places, pictures turn in their plane, and the axes of the
coordinate maps are permuted and negated so that the conventions of `multiview.ortho_views` hold
again. Coordinate maps are 8-bit; a negated axis is 254 - v, with wrapping, as in the released data.

Legend: 6 views in order 0..5, N pixels, r the view taken as front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geco_core.imaging.content import resize_content

# r -> the view that stands where each view was.
SOURCES = (
    (0, 1, 2, 3, 4, 5),
    (1, 3, 2, 4, 0, 5),
    (2, 1, 3, 5, 4, 0),
    (3, 4, 2, 0, 1, 5),
    (4, 0, 2, 1, 3, 5),
    (5, 1, 0, 2, 4, 3),
)
# r -> quarter turns clockwise of each view in its plane.
QUARTER_TURNS = (
    (0, 0, 0, 0, 0, 0),
    (0, 0, 1, 0, 0, 3),
    (0, 3, 2, 2, 1, 0),
    (0, 0, 2, 0, 0, 2),
    (0, 0, 3, 0, 0, 1),
    (0, 1, 0, 2, 3, 2),
)
# r -> (old axis, sign) of the new x, y, z: rotations by +90 about z, +90 about x, 180, -90 about z
# and -90 about x.
AXIS_TURNS = (
    ((0, 1), (1, 1), (2, 1)),
    ((1, -1), (0, 1), (2, 1)),
    ((0, 1), (2, -1), (1, 1)),
    ((0, -1), (1, -1), (2, 1)),
    ((1, 1), (0, -1), (2, 1)),
    ((0, 1), (2, 1), (1, -1)),
)


@dataclass(frozen=True)
class TrainingFrames:
    """Frames uint8 of one object.

    Attributes:
        pixels: [F, N, N, 3].
        ccms: [F, N, N, 3].
        condition: [N, N, 3], the front.
    """

    pixels: np.ndarray
    ccms: np.ndarray
    condition: np.ndarray


def relabel_views(views: np.ndarray, front: int) -> np.ndarray:
    """Pictures [6, N, N, C] with view `front` as the front, in view order."""
    turned = [
        np.rot90(views[source], -turns)
        for source, turns in zip(SOURCES[front], QUARTER_TURNS[front], strict=True)
    ]
    return np.ascontiguousarray(np.stack(turned))


def relabel_ccms(ccms: np.ndarray, front: int) -> np.ndarray:
    """Coordinate maps uint8 [6, N, N, 3] with view `front` as the front, in view order."""
    channels = [
        ccms[..., axis] if sign > 0 else ((254 - ccms[..., axis].astype(np.int16)) % 256)
        for axis, sign in AXIS_TURNS[front]
    ]
    return relabel_views(np.stack(channels, axis=-1).astype(np.uint8), front)


def training_frames(
    views: np.ndarray,
    ccms: np.ndarray,
    front: int,
    *,
    order: Sequence[int],
    ratio: float,
    background: float,
) -> TrainingFrames:
    """The frames of one object.

    Args:
        views: uint8 [6, N, N, 4], straight alpha, in view order.
        ccms: uint8 [6, N, N, 3], in view order.
        front: r.
        order: view of each frame.
        ratio: content size; positions in coordinate maps are not scaled with it.
        background: level 0..255 behind everything.
    """
    turned = relabel_views(views, front)
    maps = relabel_ccms(ccms, front)
    shrunk = np.stack([resize_content(view, ratio) for view in turned])
    shrunk_maps = np.stack([resize_content(ccm, ratio) for ccm in maps])
    pixels = blend(shrunk, background)
    over = blend(np.concatenate([shrunk_maps, shrunk[..., 3:]], axis=-1), background)
    chosen = list(order)
    return TrainingFrames(pixels[chosen], over[chosen], pixels[0])


def blend(rgba: np.ndarray, background: float) -> np.ndarray:
    """uint8 [..., 4] over a level of grey, uint8 [..., 3]; truncated, as the training data is."""
    values = rgba.astype(np.float32)
    alpha = values[..., 3:] / np.float32(255.0)
    mixed = values[..., :3] * alpha + np.float32(background) * (1.0 - alpha)
    return mixed.astype(np.uint8)
