"""A coloured outline around the object: CRM's silhouette augmentation.

Follows CRM (arXiv 2403.05034): generated and drawn pictures have outlines, renders have none. The
outline is drawn on the condition picture alone. What differs: the published code draws with
OpenCV; here the same pixels come from morphology.

Legend: H W image size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

THRESHOLD = 127
MAX_THICKNESS = 3


def add_stroke(rgba: np.ndarray, color: Sequence[int], thickness: int) -> np.ndarray:
    """Draw the contours of the alpha channel, holes included, opaquely.

    Args:
        rgba: uint8 [H, W, 4]; the object is where alpha is above 127.
        color: three levels 0..255.
        thickness: 1..3. The brush is a diamond that reaches `thickness` - 1 pixels to every side.

    Returns:
        uint8 [H, W, 4].

    Raises:
        ValueError: another thickness.
    """
    if not 1 <= thickness <= MAX_THICKNESS:
        raise ValueError(f"thickness must be within 1 and {MAX_THICKNESS}, got {thickness}")
    inside_HW = rgba[..., 3] > THRESHOLD
    drawn_HW = inside_HW & np.logical_not(ndimage.binary_erosion(inside_HW))
    if thickness > 1:
        drawn_HW = np.asarray(ndimage.binary_dilation(drawn_HW, iterations=thickness - 1), bool)
    stroked = rgba.copy()
    stroked[drawn_HW] = (*color, 255)
    return stroked
