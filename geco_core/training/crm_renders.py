"""Rendered views of the objects of a training set: what CRM's reconstructor is compared with.

The published training renders each object from 16 cameras; its files were never released, so this
layout is ours. It lies beside the pictures of `crm_folder`:

```
<id>/cameras.json                  {"fov_deg": 39.6, "camera_to_world": [K matrices of 4 x 4]}
<id>/render_000.png ...            square RGBA, straight alpha, K of them
<id>/depth_000.npy ...             float16 or float32 [N, N]: distance along the viewing axis, 0
                                   where nothing is seen
```

Matrices are row-major, OpenGL axes (x right, y up, z towards the viewer), in CRM's canonical frame:
z up, the front camera at +y, the object within [-0.95, 0.95], which is 0.95 times its coordinate
map. `fov_deg` is the vertical field of view.

Legend: K renders, k of them, N pixels per side.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geco_core.errors import BadItem, Reason
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.imaging.decode import DecodeLimits, decode_image
from geco_core.training.crm_folder import MAX_PICTURE_BYTES, Files, bad_object, object_bytes

CAMERAS = "cameras.json"
MAX_CAMERAS_BYTES = 1 << 20
MAX_RENDERS = 256
_NPY_DTYPES = (np.dtype("<f2"), np.dtype("<f4"))
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Cameras:
    """The cameras of an object's renders.

    Attributes:
        c2w: camera-to-world float32 [K, 4, 4] in the world frame of this project, OpenGL axes.
        fov_deg: vertical field of view.
    """

    c2w: Tensor
    fov_deg: float


@dataclass(frozen=True)
class CrmRenders:
    """Some renders of an object.

    Attributes:
        rgba: uint8 [k, N, N, 4], straight alpha.
        depth: float32 [k, N, N].
        c2w: float32 [k, 4, 4], world frame.
        fov_deg: vertical field of view.
    """

    rgba: np.ndarray
    depth: np.ndarray
    c2w: Tensor
    fov_deg: float


def read_cameras(files: Files, item_id: str) -> Cameras:
    """The cameras of an object.

    Raises:
        BadItem: there are none, or they are no rigid poses.
    """
    data = object_bytes(files, item_id, CAMERAS, MAX_CAMERAS_BYTES)
    try:
        given: Any = json.loads(data)
        fov = float(given["fov_deg"])
        poses = np.asarray(given["camera_to_world"], dtype=np.float32)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _bad(item_id, f"{CAMERAS} can not be read: {type(error).__name__}") from error
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not 1 <= len(poses) <= MAX_RENDERS:
        raise _bad(item_id, f"camera_to_world has shape {poses.shape}, expected [K, 4, 4]")
    if not (0.0 < fov < 180.0) or not np.isfinite(poses).all():
        raise _bad(item_id, f"fov_deg {fov} or a matrix is out of range")
    turns = poses[:, :3, :3]
    rigid = np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=_TOLERANCE)
    mirrored = bool((np.linalg.det(turns) < 0).any())
    last = np.allclose(poses[:, 3], (0, 0, 0, 1), atol=_TOLERANCE)
    if mirrored or not (rigid and last):
        raise _bad(item_id, "a camera_to_world matrix is no rotation with a position")
    return Cameras(poses_to_world(torch.from_numpy(poses)), fov)


def read_renders(
    files: Files, item_id: str, cameras: Cameras, which: Sequence[int], limits: DecodeLimits
) -> CrmRenders:
    """The chosen renders of an object.

    Args:
        files: the layout.
        item_id: the object.
        cameras: its own.
        which: numbers of renders.
        limits: of the pictures.

    Raises:
        BadItem: a file is missing, damaged, or of another size than the others.
    """
    pictures, depths = [], []
    for number in which:
        name = f"render_{number:03d}.png"
        data = object_bytes(files, item_id, name, MAX_PICTURE_BYTES)
        pictures.append(decode_image(data, item_id=item_id, limits=limits).rgba)
        side = pictures[0].shape[0]
        if pictures[-1].shape != (side, side, 4):
            raise _bad(item_id, f"{name} is no square of {side} pixels")
        depths.append(_depth(files, item_id, number, side))
    chosen = cameras.c2w[torch.tensor(list(which))]
    return CrmRenders(np.stack(pictures), np.stack(depths), chosen, cameras.fov_deg)


def poses_to_world(c2w_K44: Tensor) -> Tensor:
    """Canonical camera-to-world matrices in the world frame."""
    world = c2w_K44.clone()
    world[:, :3] = canonical_to_world(c2w_K44[:, :3].transpose(1, 2)).transpose(1, 2)
    return world


def _depth(files: Files, item_id: str, number: int, side: int) -> np.ndarray:
    name = f"depth_{number:03d}.npy"
    data = object_bytes(files, item_id, name, MAX_PICTURE_BYTES)
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, EOFError, SyntaxError, TypeError) as error:
        raise _bad(item_id, f"{name} is no .npy file: {error}") from error
    if shape != (side, side) or fortran or dtype not in _NPY_DTYPES:
        raise _bad(item_id, f"{name} holds {dtype} {shape}, expected float32 ({side}, {side})")
    rest = data[stream.tell() :]
    if len(rest) != side * side * dtype.itemsize:
        raise _bad(item_id, f"{name} is cut off")
    values = np.frombuffer(rest, dtype).reshape(side, side).astype(np.float32)
    if not np.isfinite(values).all() or values.min() < 0:
        raise _bad(item_id, f"{name} holds values that are no distances")
    return values


def _bad(item_id: str, message: str) -> BadItem:
    return bad_object(item_id, message, Reason.CORRUPT_IMAGE)
