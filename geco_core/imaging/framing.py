"""From a cut-out to the tensors a multi-view model reads.

Framing, compositing, and the two image processors.

Framing follows InstantMesh's `resize_foreground`, which crops and pads without resampling.
Compositing is PIL's paste, and resizing is PIL's on uint8, as the published image processors do: a
float resize is off by up to 1/255 per channel.

Legend: H W image size, N side of a framed image, S condition pixels, P vision-tower pixels, B
batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from geco_core.config.models import MultiViewConfig
from geco_core.errors import BadItem, Reason

# Backgrounds: InstantMesh's fine-tune was made on white, upstream Zero123++ on this gray.
BACKGROUNDS = {"white": 255, "gray": 127}
# The pixel statistics every CLIP vision tower is trained with.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def resize_foreground(rgba: np.ndarray, ratio: float) -> np.ndarray:
    """Crop to the foreground, pad to a square, then pad to the wanted share of the side.

    Args:
        rgba: uint8 [H, W, 4]; foreground is alpha > 0. Nothing is resampled; padding is transparent
            black.
        ratio: share of the side the longer edge of the foreground takes, in (0, 1].

    Returns:
        uint8 [N, N, 4].

    Raises:
        BadItem: `empty_foreground`, when no pixel (or a single row or column) has alpha > 0.
    """
    ys, xs = np.nonzero(rgba[..., 3] > 0)
    if len(ys) == 0 or ys.min() == ys.max() or xs.min() == xs.max():
        raise BadItem(
            "the image has no foreground: alpha is zero (nearly) everywhere",
            reason=Reason.EMPTY_FOREGROUND,
            remedy="give an image whose object is opaque",
            stage="prepare",
        )
    # The published models were fed boxes without their last row and column.
    cropped = rgba[ys.min() : ys.max(), xs.min() : xs.max()]
    side = max(cropped.shape[:2])
    return _pad_to(_pad_to(cropped, side), int(side / ratio))


def composite(rgba: np.ndarray, background: str) -> np.ndarray:
    """uint8 [H, W, 4] pasted on a uniform background, uint8 [H, W, 3].

    `background` is a key of `BACKGROUNDS`.
    """
    image = Image.fromarray(rgba, "RGBA")
    canvas = Image.new("RGB", image.size, (BACKGROUNDS[background],) * 3)
    canvas.paste(image, mask=image.getchannel("A"))
    return np.asarray(canvas)


def frame_condition(rgba: np.ndarray, config: MultiViewConfig) -> np.ndarray:
    """`resize_foreground` then `composite` by the model's convention, uint8 [N, N, 3].

    Raises `BadItem`.
    """
    return composite(resize_foreground(rgba, config.foreground_ratio), config.background)


def processor_pixels(
    rgb: np.ndarray,
    size: int,
    resample: Image.Resampling,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """What a CLIP image processor returns.

    Shortest edge resized to `size`, centre crop, / 255, normalised.

    Args:
        rgb: uint8 [H, W, 3].
        size: side of the result.
        resample: PIL filter.
        mean: per channel, of values in [0, 1].
        std: per channel.

    Returns:
        float32 [3, size, size].
    """
    height, width = rgb.shape[:2]
    short = min(height, width)
    target = (int(size * width / short), int(size * height / short))
    resized = np.asarray(Image.fromarray(rgb, "RGB").resize(target, resample))
    top, left = (target[1] - size) // 2, (target[0] - size) // 2
    values = resized[top : top + size, left : left + size].astype(np.float32) / np.float32(255.0)
    normalised = (values - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))


def condition_pixels(rgbs: Sequence[np.ndarray], config: MultiViewConfig) -> tuple[Tensor, Tensor]:
    """Both processors on framed images.

    Args:
        rgbs: B images, uint8 [N, N, 3] each, of any sizes.
        config: the model's.

    Returns:
        Codec pixels [B, 3, S, S] (bilinear) and vision-tower pixels [B, 3, P, P] (bicubic).
    """
    codec = config.codec
    bilinear, bicubic = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
    mean, std = (codec.condition_mean,) * 3, (codec.condition_std,) * 3
    vae = [processor_pixels(rgb, config.condition_size, bilinear, mean, std) for rgb in rgbs]
    clip = [
        processor_pixels(rgb, config.vision.image_size, bicubic, CLIP_MEAN, CLIP_STD)
        for rgb in rgbs
    ]
    return torch.stack(vae), torch.stack(clip)


def condition_pixels_from_tensor(
    images_B3HW: Tensor, config: MultiViewConfig
) -> tuple[Tensor, Tensor]:
    """The same for square image tensors in [0, 1], as training has them.

    Identical to `condition_pixels` up to float rounding when no resize is needed; a needed one is
    done in float here.
    """
    codec = config.codec
    vae = _resize(images_B3HW, config.condition_size, "bilinear")
    clip = _resize(images_B3HW, config.vision.image_size, "bicubic")
    mean = clip.new_tensor(CLIP_MEAN)[:, None, None]
    std = clip.new_tensor(CLIP_STD)[:, None, None]
    return (vae - codec.condition_mean) / codec.condition_std, (clip - mean) / std


def _resize(images_B3HW: Tensor, size: int, mode: str) -> Tensor:
    if images_B3HW.shape[-2:] == (size, size):
        return images_B3HW
    resized = F.interpolate(
        images_B3HW, (size, size), mode=mode, align_corners=False, antialias=True
    )
    return resized.clamp(0.0, 1.0)


def _pad_to(rgba: np.ndarray, side: int) -> np.ndarray:
    extra = [side - length for length in rgba.shape[:2]]
    widths = [(e // 2, e - e // 2) for e in extra]
    return np.pad(rgba, (*widths, (0, 0)), mode="constant")
