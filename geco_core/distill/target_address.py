"""The content address of a target, and what it is a function of besides its teacher's weights.

Everything here is pure and needs no model: the same item, seed, teacher and settings give the same
key on every machine, so nothing is made twice.

Legend: S condition pixels, K renders of side R.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from geco_core.cameras import orbit_pose, world_to_camera
from geco_core.config.distill import TargetsConfig
from geco_core.config.load import to_dict
from geco_core.config.models import InstantMeshConfig, MultiViewConfig, SamplerConfig
from geco_core.diffusion import noise as streams
from geco_core.imaging.framing import composite

VERSION = 1  # of how targets are made: another number, other keys
SETTINGS = ("renders", "render_size", "supersample", "fov_deg", "radius", "elevation_deg")
CAMERAS = "cameras"
# The rest of a chain's configuration says where its weights lie and how it is run.
_OF_RESULTS = ("multiview", "sampler", "reconstructor", "extraction", "tf32")


def target_condition(rgba: np.ndarray, config: MultiViewConfig) -> np.ndarray:
    """The pixels a target is made from.

    Args:
        rgba: framed condition, uint8 [N, N, 4], straight alpha.
        config: of the teacher; its background and `condition_size` S.

    Returns:
        uint8 [S, S, 3].
    """
    rgb = Image.fromarray(composite(rgba, config.background))
    size = (config.condition_size, config.condition_size)
    return np.asarray(rgb.resize(size, Image.Resampling.BILINEAR)).copy()


def target_cameras(seed: int, settings: TargetsConfig) -> Tensor:
    """World-to-camera float32 [K, 4, 4], OpenGL axes: a function of the seed and the ranges.

    Azimuth, elevation and radius are uniform; every camera looks at the origin.
    """
    generator = torch.Generator().manual_seed(streams.generator_seed(seed, CAMERAS))
    draws_K3 = torch.rand(settings.renders, 3, generator=generator, dtype=torch.float64)
    azimuth, elevation, radius = draws_K3.unbind(-1)
    low, high = settings.elevation_deg
    near, far = settings.radius
    c2w = orbit_pose(360.0 * azimuth, low + (high - low) * elevation, near + (far - near) * radius)
    return world_to_camera(c2w)


def target_key(
    condition_sha256: str, seed: int, teacher_digest: str, settings: TargetsConfig
) -> str:
    """Content address, 64 hex digits.

    Args:
        condition_sha256: see `condition_digest`.
        seed: of the item.
        teacher_digest: see `teacher_digest`.
        settings: of the renders; other fields of it do not count.
    """
    parts = [VERSION, condition_sha256, seed, teacher_digest, deciding(settings)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def teacher_digest(config: InstantMeshConfig, weights_digest: str, dtype: torch.dtype) -> str:
    """sha256 of all that decides a teacher's sample but its input and seed, hex.

    Args:
        config: of the chain; where its weights lie and how it is run do not count.
        weights_digest: of both models.
        dtype: precision of the networks.
    """
    content = {k: v for k, v in to_dict(config).items() if k in _OF_RESULTS}
    content |= {"weights_digest": weights_digest, "dtype": str(dtype)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def condition_digest(condition: np.ndarray) -> str:
    """sha256 of a condition's shape and pixels, hex."""
    shape = json.dumps(list(condition.shape)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(condition).tobytes()).hexdigest()


def settings_digest(settings: TargetsConfig) -> str:
    """sha256 of the settings that decide renders, hex."""
    return hashlib.sha256(json.dumps(deciding(settings), sort_keys=True).encode()).hexdigest()


def deciding(settings: TargetsConfig) -> dict[str, Any]:
    """The settings that decide a target's renders, as plain data."""
    plain = to_dict(settings)
    return {name: plain[name] for name in SETTINGS}


def noise_seeds(seed: int, sampler: SamplerConfig) -> list[tuple[str, int]]:
    """Every stream a target draws from, and the seed of its generator: what is recorded of noise.

    The initial noise, the posterior draws of the condition latents, the noise of the reference
    passes, the negative rows' where there is guidance, and the cameras.
    """
    names = [streams.INITIAL, streams.POSTERIOR, streams.REFERENCE]
    if sampler.guidance_scale != 1.0:
        names += [streams.POSTERIOR_NEGATIVE, streams.REFERENCE_NEGATIVE]
    return [(name, streams.generator_seed(seed, name)) for name in (*names, CAMERAS)]
