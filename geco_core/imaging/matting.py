"""The foreground of a decoded image: its own alpha, else what stands out of a plain background.

InstantMesh runs a segmentation network (rembg) on every image without alpha. Here that is optional,
since it needs another runtime and weights; product shots on a plain backdrop, the usual case, are
keyed by colour from the border. What was done is always said in the notes.

Legend: H, W pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from geco_core.errors import BadItem, Reason
from geco_core.imaging.decode import Decoded
from geco_core.imaging.matting_network import network_alpha, network_missing

STAGE = "prepare"

Method = Literal["auto", "border", "network", "keep"]

# Channel distances of 0..255. Below LOW a pixel is background, above HIGH it is foreground: JPEG
# noise on a white backdrop stays below 12, the softest edges in product shots start near 40.
LOW, HIGH = 12.0, 40.0
_RING = 0.01
_UNIFORM_SHARE = 0.75
_MIN_FOREGROUND = 0.001
_MIN_ALPHA = 12  # of 255; an image that never reaches it shows nothing
_MAX_FOREGROUND = 0.98


def foreground_rgba(
    decoded: Decoded,
    *,
    item_id: str | None = None,
    require_alpha: bool = False,
    method: Method = "auto",
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The image with an alpha channel that marks the object.

    Args:
        decoded: from `geco_core.imaging.decode.decode_image`.
        item_id: named in errors.
        require_alpha: refuse images without an alpha channel instead of looking for a foreground.
        method: for images without alpha. "border" keys out a uniform background; "network" uses
            rembg; "keep" takes the whole frame; "auto" tries border, then the network where it is
            installed with its weights, then keeps.

    Returns:
        rgba uint8 [H, W, 4] with straight alpha, and notes on what was done here (none for a
        cut-out).

    Raises:
        BadItem: `EMPTY_FOREGROUND` when everything is transparent or one flat colour;
            `UNSUPPORTED_INPUT` without alpha under `require_alpha`.
        ConfigError: "network" without rembg or its weights.
    """
    alpha_HW = decoded.rgba[..., 3]
    if alpha_HW.min() < 255:
        _check_visible(alpha_HW, item_id)
        return decoded.rgba, ()
    if require_alpha:
        raise BadItem(
            "the image has no transparent pixel and an alpha channel is required",
            reason=Reason.UNSUPPORTED_INPUT,
            remedy="supply a cut-out (RGBA), or switch require_alpha off",
            item_id=item_id,
            stage=STAGE,
        )
    rgba, note = _without_alpha(decoded.rgba, method, item_id)
    return rgba, (note,)


def _without_alpha(rgba: np.ndarray, method: Method, item_id: str | None) -> tuple[np.ndarray, str]:
    if method in ("auto", "border"):
        backdrop_3 = border_color(rgba)
        if backdrop_3 is not None:
            keyed = key_out(rgba, backdrop_3)
            share = float((keyed[..., 3] > 127).mean())
            if share < _MIN_FOREGROUND:
                raise _empty(f"all but {share:.2%} of the image is one flat colour", item_id)
            if share <= _MAX_FOREGROUND:
                color = "#" + "".join(f"{round(float(value)):02x}" for value in backdrop_3)
                return keyed, f"background keyed out: uniform {color}"
    if method == "network" or (method == "auto" and network_missing() is None):
        alpha_HW = network_alpha(rgba)
        _check_visible(alpha_HW, item_id)
        return np.dstack([rgba[..., :3], alpha_HW]), "background removed by rembg"
    return rgba, "background kept: no alpha and no plain background; a cut-out gives better meshes"


def border_color(rgba: np.ndarray) -> np.ndarray | None:
    """The colour float [3] most of the border agrees on, or None when it is not uniform."""
    height, width = rgba.shape[:2]
    ring = max(2, round(_RING * min(height, width)))
    rgb = rgba[..., :3].astype(np.float32)
    sides = (rgb[:ring], rgb[-ring:], rgb[:, :ring], rgb[:, -ring:])
    border_M3 = np.concatenate([side.reshape(-1, 3) for side in sides])
    median_3 = np.median(border_M3, axis=0)
    near_M = np.abs(border_M3 - median_3).max(axis=1) <= LOW
    return median_3 if near_M.mean() >= _UNIFORM_SHARE else None


def key_out(rgba: np.ndarray, backdrop_3: np.ndarray) -> np.ndarray:
    """Alpha 0 where the backdrop reaches from the border, soft at edges.

    The backdrop's share is taken out of the colour there (C = a F + (1 - a) B solved for F). Areas
    of backdrop colour inside the object stay opaque.
    """
    rgb = rgba[..., :3].astype(np.float32)
    distance_HW = np.abs(rgb - backdrop_3).max(axis=2)
    labels_HW = np.empty(distance_HW.shape, dtype=np.int32)
    ndimage.label(distance_HW < HIGH, output=labels_HW)
    edges = (labels_HW[0], labels_HW[-1], labels_HW[:, 0], labels_HW[:, -1])
    outside = np.unique(np.concatenate(edges))
    reached_HW = np.isin(labels_HW, outside[outside > 0])
    soft_HW = np.clip((distance_HW - LOW) / (HIGH - LOW), 0.0, 1.0)
    alpha_HW = np.where(reached_HW, soft_HW, 1.0)
    share_HW1 = np.maximum(alpha_HW, 1e-3)[..., None]
    pure = np.clip((rgb - (1.0 - share_HW1) * backdrop_3) / share_HW1, 0.0, 255.0)
    alpha_u8 = np.rint(alpha_HW * 255.0)
    pure = np.where(alpha_u8[..., None] > 0, pure, 0.0)
    return np.dstack([np.rint(pure), alpha_u8]).astype(np.uint8)


def _check_visible(alpha_HW: np.ndarray, item_id: str | None) -> None:
    if int(alpha_HW.max()) < _MIN_ALPHA:
        raise _empty("every pixel is transparent", item_id)


def _empty(message: str, item_id: str | None) -> BadItem:
    return BadItem(
        message,
        reason=Reason.EMPTY_FOREGROUND,
        remedy="supply an image that shows an object",
        item_id=item_id,
        stage=STAGE,
    )
