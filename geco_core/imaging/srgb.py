"""The sRGB transfer curve (IEC 61966-2-1), for values in [0, 1]."""

from __future__ import annotations

import numpy as np


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] of sRGB-encoded values in [0, 1]; any shape, float64."""
    encoded = np.asarray(encoded, dtype=np.float64)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB-encoded values in [0, 1] of linear light in [0, 1]; any shape, float64."""
    linear = np.asarray(linear, dtype=np.float64)
    # maximum() keeps the unused branch away from a root of a negative number.
    curve = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, linear * 12.92, curve)
