"""CRM's preparation of a condition image, and the pixels its encoders read.

Follows CRM (arXiv 2403.05034): content resized inside its frame, squared, laid over grey. There is
no cropping and no centring. Compositing and resizing are PIL's on uint8, as published. What
differs: finding the foreground is `imaging.matting`'s, and an image with alpha that skips these
steps is not silently laid over black.

Legend: H W image size, N = max(H, W), C channels, S codec pixels, P vision pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from geco_core.imaging.framing import CLIP_MEAN, CLIP_STD, processor_pixels

GREY = (127, 127, 127)


def prepare_image(
    rgba: np.ndarray, ratio: float = 1.0, background: tuple[int, int, int] = GREY
) -> np.ndarray:
    """A cut-out as CRM's models expect it.

    Args:
        rgba: uint8 [H, W, 4], straight alpha.
        ratio: see `resize_content`.
        background: levels 0..255; anything but grey 127 is unlike what the models were trained on.

    Returns:
        uint8 [N, N, 3].

    Raises:
        ValueError: the ratio leaves no pixel.
    """
    square = expand_to_square(resize_content(clear_transparent(rgba), ratio))
    image = Image.fromarray(square, "RGBA")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    return np.asarray(Image.alpha_composite(canvas, image).convert("RGB"))


def clear_transparent(rgba: np.ndarray) -> np.ndarray:
    """The same image with black where alpha is 0."""
    image = Image.fromarray(rgba, "RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 0)), image))


def resize_content(pixels: np.ndarray, ratio: float) -> np.ndarray:
    """The picture shrunk about its centre inside its frame, the rest 0.

    Args:
        pixels: uint8 [H, W, C]; colour of RGBA is weighted by alpha.
        ratio: share of each side, in (0, 1]; 1 changes nothing.

    Raises:
        ValueError: the ratio leaves no pixel or is above 1.
    """
    if ratio == 1.0:
        return pixels
    height, width = pixels.shape[:2]
    inner = int(width * ratio), int(height * ratio)
    if ratio > 1.0 or min(inner) < 1:
        raise ValueError(f"ratio {ratio} of a {width} x {height} image is not within its frame")
    image = Image.fromarray(pixels)
    canvas = Image.new(image.mode, image.size)
    canvas.paste(image.resize(inner), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(canvas)


def expand_to_square(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] -> [N, N, 4], transparent black around the centred image."""
    height, width = rgba.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    edges = ((top, side - height - top), (left, side - width - left), (0, 0))
    return np.pad(rgba, edges)


def drop_alpha(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: what the published pipeline makes of RGBA given to it directly.

    Transparent pixels become black, which its models were not trained on; for comparison only.
    """
    return np.asarray(Image.fromarray(clear_transparent(rgba), "RGBA").convert("RGB"))


def codec_pixels(rgb: np.ndarray, size: int) -> Tensor:
    """float32 [3, S, S] in [-1, 1]: bilinear, antialiased."""
    resized = Image.fromarray(rgb, "RGB").resize((size, size), Image.Resampling.BILINEAR)
    values = np.asarray(resized).astype(np.float32) / np.float32(255.0)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1) * 2.0 - 1.0))


def vision_pixels(rgb: np.ndarray, size: int) -> Tensor:
    """float32 [3, P, P], normalised: bicubic on the short side, centre crop."""
    return processor_pixels(rgb, size, Image.Resampling.BICUBIC, CLIP_MEAN, CLIP_STD)
