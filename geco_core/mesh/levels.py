"""Levels of detail: the finished mesh again with fewer and fewer faces.

Every level is made from the one before, so that together they cost little more than the first; its
colours come from the full mesh.

Legend: N vertices of the full mesh, M of a level.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from geco_core.config.finish import MIN_FACES, check_lods
from geco_core.errors import BadItem
from geco_core.imaging.srgb import linear_to_srgb, srgb_to_linear
from geco_core.mesh.simplify import simplify
from geco_core.types import Mesh

MIN_TEXTURE_SIZE = 16


def level_chain(mesh: Mesh, lods: tuple[float, ...]) -> list[Mesh]:
    """One mesh per level, finest first. A level that can not be made is the one before again.

    Args:
        mesh: the full mesh, which is not part of the chain; without texture coordinates.
        lods: shares of its faces, or numbers of faces, decreasing (`FinishConfig.lods`). A mesh
            that has no more faces than a level wants is that level.

    Raises:
        ValueError: levels out of range or not decreasing, or a mesh with texture coordinates.
    """
    check_lods(lods)
    chain: list[Mesh] = []
    for level in lods:
        wanted = round(level * len(mesh.faces)) if level < 1.0 else int(level)
        finer = chain[-1] if chain else replace(mesh, colors=None)
        try:
            chain.append(simplify(finer, max(MIN_FACES, wanted)))
        except BadItem:  # nothing would be left: the coarsest mesh that there is stands in
            chain.append(finer)
    return [_coloured(level, mesh) for level in chain]


def level_texture_size(size: int, faces: int, full_faces: int) -> int:
    """Side of the texture of a level: halved whenever the faces fall to a quarter.

    Args:
        size: side of the texture of the full mesh; 0 stays 0.
        faces: of the level.
        full_faces: of the full mesh.
    """
    while size > MIN_TEXTURE_SIZE and 4 * faces <= full_faces:
        size, faces = size // 2, 4 * faces
    return size


def _coloured(level: Mesh, full: Mesh) -> Mesh:
    """A level with the colours of the full mesh: at every vertex the mean, in linear light, of the
    full vertices it stands for. One sample each would alias.
    """
    if full.colors is None:
        return level
    _, stands_for_N = KDTree(level.vertices).query(full.vertices)
    linear_N3 = srgb_to_linear(full.colors / 255.0)
    count = len(level.vertices)
    sums = [np.bincount(stands_for_N, linear_N3[:, k], minlength=count) for k in range(3)]
    taken = np.bincount(stands_for_N, minlength=count)
    mean_M3 = np.stack(sums, axis=1) / np.maximum(taken, 1)[:, None]
    alone_M = taken == 0
    if alone_M.any():
        _, nearest = KDTree(full.vertices).query(level.vertices[alone_M])
        mean_M3[alone_M] = linear_N3[nearest]
    colors_M3 = np.rint(linear_to_srgb(np.clip(mean_M3, 0.0, 1.0)) * 255.0).astype(np.uint8)
    return replace(level, colors=colors_M3)
