"""Procedural objects in the layout of CRM's data: something to train on without downloads.

The same objects as the micro trainings', see `crm_folder` and `crm_renders` for the files.

Legend: N pixels per side of the pictures, R of the renders, K renders.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image

from geco_core.fields.crm_frame import world_to_canonical
from geco_core.shapes.canonical import MESH_SCALE, ordered_views, surface_points
from geco_core.shapes.object import Split, make_object, object_seed
from geco_core.shapes.views import ORTHO_HALF_EXTENT, orbit_surface, ortho_views
from geco_core.training.crm_folder import INDEX, VIEWS
from geco_core.training.crm_renders import CAMERAS
from geco_core.training.rendered import RenderCameras, camera_poses

Put = Callable[[str, bytes], object]
BACKGROUND_LEVEL = 127


@dataclass(frozen=True)
class WriterConfig:
    """What is written.

    Attributes:
        objects: how many.
        split: of the procedural objects.
        size: N; 512 in the published data.
        render_size: R.
        cameras: of the renders.
    """

    objects: int = 8
    split: Split = "train"
    size: int = 512
    render_size: int = 256
    cameras: RenderCameras = field(default_factory=RenderCameras)


def write_objects(put: Put, config: WriterConfig) -> int:
    """Write a training set; the index comes last.

    Args:
        put: takes a name and the file's bytes.
        config: what is written.

    Returns:
        The number of objects.
    """
    index = io.StringIO()
    rows = csv.writer(index, lineterminator="\n")
    rows.writerow(["id", "caption"])
    for number in range(config.objects):
        item_id = f"{config.split}-{number:06d}"
        caption = _write_object(put, item_id, number, config)
        rows.writerow([item_id, caption])
    put(INDEX, index.getvalue().encode())
    return config.objects


def _write_object(put: Put, item_id: str, number: int, config: WriterConfig) -> str:
    seed = object_seed(config.split, number)
    made = make_object(seed)
    # Pictures show [-1, 1] where coordinates are mesh coordinates / 0.95.
    larger = replace(made, vertices=made.vertices / np.float32(MESH_SCALE))
    rgba, maps = ortho_views(larger, config.size)
    views = ordered_views(rgba)
    points, covered = surface_points(views[:, 3:], maps)
    levels = ((points + 1.0) / 2.0 * 255.0).clamp(0, 255).byte()
    ccms = torch.where(covered, levels, torch.full_like(levels, BACKGROUND_LEVEL))
    pictures = (views * 255.0).round().byte().movedim(1, -1).numpy()
    # Where nothing is seen, the published files are transparent black.
    pictures[pictures[..., 3] == 0] = 0
    for view in range(VIEWS):
        put(f"{item_id}/{view:03d}.png", png(pictures[view]))
        put(f"{item_id}/xyz_new_{view:03d}.png", png(ccms[view].movedim(0, -1).numpy()))
    c2w = camera_poses(seed, config.cameras)
    far = c2w.clone()
    far[:, :3, 3] *= ORTHO_HALF_EXTENT  # the object is larger than its mesh by this
    renders, depths = orbit_surface(made, far, config.cameras.fov_deg, config.render_size)
    for k in range(config.cameras.views):
        put(f"{item_id}/render_{k:03d}.png", png(renders[k]))
        put(f"{item_id}/depth_{k:03d}.npy", npy(depths[k] / np.float32(ORTHO_HALF_EXTENT)))
    put(f"{item_id}/{CAMERAS}", cameras_json(c2w, config.cameras.fov_deg))
    return made.caption


def cameras_json(c2w_K44: torch.Tensor, fov_deg: float) -> bytes:
    """`cameras.json` of camera-to-world poses in the world frame."""
    poses = c2w_K44.clone()
    poses[:, :3] = world_to_canonical(c2w_K44[:, :3].transpose(1, 2)).transpose(1, 2)
    given = {"fov_deg": fov_deg, "camera_to_world": poses.tolist()}
    return f"{json.dumps(given)}\n".encode()


def png(pixels: np.ndarray) -> bytes:
    """An image uint8 [H, W, 3 or 4] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def npy(values: np.ndarray) -> bytes:
    """An array as .npy, float32."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, dtype=np.float32))
    return buffer.getvalue()
