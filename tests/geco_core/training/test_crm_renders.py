"""Renders of a training set: cameras, pictures and depths agree with the coordinate maps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from geco_core.cameras import projection, world_to_camera
from geco_core.errors import BadItem
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.training.crm_folder import CrmFolder, Entry
from geco_core.training.crm_folder_writer import npy
from geco_core.training.crm_renders import read_cameras, read_renders
from tests.support.tiny_training import RENDER_SIZE, RENDERS, Memory, objects

ID = "train-000000"
DEPTH = npy(np.zeros((RENDER_SIZE, RENDER_SIZE)))


@pytest.fixture(scope="module")
def files() -> Memory:
    return objects(1)


def changed(files: Memory, name: str, data: bytes) -> Memory:
    return Memory({**files, f"{ID}/{name}": data})


def test_surface_points_of_the_maps_are_where_the_renders_see_them(files: Memory) -> None:
    folder = CrmFolder(files)
    made = folder.read(Entry(ID))
    cameras = read_cameras(files, ID)
    renders = read_renders(files, ID, cameras, range(RENDERS), folder.limits)
    assert made.ccms is not None
    assert renders.rgba.shape == (RENDERS, RENDER_SIZE, RENDER_SIZE, 4)
    solid = made.views[..., 3] == 255
    canonical = torch.from_numpy(made.ccms[solid].astype(np.float32) / 255.0 * 2.0 - 1.0) * 0.95
    points = torch.cat([canonical_to_world(canonical), torch.ones(len(canonical), 1)], 1)
    for k in range(RENDERS):
        view = points @ world_to_camera(renders.c2w[k]).T
        clip = view @ projection(renders.fov_deg).T
        place = ((clip[:, :2] / clip[:, 3:] + 1) / 2 * RENDER_SIZE).long().clamp(0, RENDER_SIZE - 1)
        depth = torch.from_numpy(renders.depth[k])[place[:, 1], place[:, 0]]
        inside = torch.from_numpy(renders.rgba[k, ..., 3])[place[:, 1], place[:, 0]] > 0
        assert float(inside.float().mean()) > 0.93  # edges of coarse pixels
        nearest = -view[:, 2] - depth  # no point lies before the surface that is seen
        assert float((nearest[depth > 0] > -0.2).float().mean()) > 0.97
        assert float((nearest[depth > 0].abs() < 0.1).float().mean()) > 0.2  # many are on it


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("cameras.json", b"{", "can not be read"),
        ("cameras.json", b'{"fov_deg": 40, "camera_to_world": [[1, 2], [3, 4]]}', "shape"),
        (
            "cameras.json",
            json.dumps({"fov_deg": 400, "camera_to_world": [np.eye(4).tolist()]}).encode(),
            "range",
        ),
        (
            "cameras.json",
            json.dumps({"fov_deg": 40, "camera_to_world": [(2 * np.eye(4)).tolist()]}).encode(),
            "no rotation",
        ),
        (
            "cameras.json",
            json.dumps(
                {"fov_deg": 40, "camera_to_world": [np.diag([-1.0, 1, 1, 1]).tolist()]}
            ).encode(),
            "no rotation",
        ),
        (
            "cameras.json",
            b'{"fov_deg": 1' + b"0" * 400 + b', "camera_to_world": []}',
            "can not be read: OverflowError",
        ),
        ("depth_000.npy", b"\x93NUMPY", "no .npy"),
        ("depth_000.npy", npy(np.zeros((3, 3))), "expected float32"),
        ("depth_000.npy", npy(np.full((RENDER_SIZE, RENDER_SIZE), -1.0)), "no distances"),
        ("depth_000.npy", DEPTH[:-4], "cut off"),
        ("depth_000.npy", DEPTH.replace(b"<f4", b"|O8"), "expected"),
    ],
)
def test_damaged_files_are_refused(files: Memory, name: str, data: bytes, match: str) -> None:
    broken = changed(files, name, data)
    limits = CrmFolder(broken).limits
    with pytest.raises(BadItem, match=match):
        read_renders(broken, ID, read_cameras(broken, ID), [0], limits)
