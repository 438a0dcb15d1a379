"""From a generated mesh to a finished asset: gate, clean, shape, centre, texture, measure, write.

Deterministic: the same mesh, item, seed, settings and provenance give the same bytes in any
process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from geco_core.config.finish import FinishConfig
from geco_core.mesh.clean import centred, clean
from geco_core.mesh.components import drop_small_components
from geco_core.mesh.gate import check_mesh
from geco_core.mesh.glb import write_glb
from geco_core.mesh.holes import fill_small_holes
from geco_core.mesh.inspect import mesh_stats
from geco_core.mesh.simplify import simplify
from geco_core.types import Asset, Mesh

EXTRAS_FORMAT = 1
UNCHANGED = FinishConfig()


def finish_mesh(
    mesh: Mesh,
    *,
    item_id: str,
    seed: int,
    provenance: Mapping[str, Any],
    thumbnail_size: int = 128,
    source_sha256: str = "",
    settings: FinishConfig = UNCHANGED,
) -> Asset:
    """Check, clean, shape, centre, texture, measure, draw and write one mesh.

    Args:
        mesh: as a system returned it, glTF frame.
        item_id: the item it was made for.
        seed: the seed it was made with.
        provenance: `System.provenance()`: digests, licences, versions. Goes into `asset.extras` as
            it is.
        thumbnail_size: side of the preview in pixels; 0 for none.
        source_sha256: digest of the source bytes.
        settings: which steps change the surface.

    Returns:
        The asset. `asset.extras` of the GLB holds `format`, `item_id`, `seed`, `source_sha256`,
        `center_offset` (the point of the model's frame that became the origin, glTF axes) and the
        provenance.

    Raises:
        BadItem: the mesh does not pass the gate (see `check_mesh`), before or after shaping, or can
            not be textured.
    """
    check_mesh(mesh, item_id=item_id)
    color_fn = mesh.color_fn
    shaped, notes = _shaped(mesh, settings)
    shaped, centre = centred(shaped)
    check_mesh(shaped, item_id=item_id)
    extras = {
        **provenance,
        "format": EXTRAS_FORMAT,
        "item_id": item_id,
        "seed": seed,
        "source_sha256": source_sha256,
        "center_offset": centre,
    }

    final = _textured(shaped, color_fn, centre, settings)
    glb = write_glb(final, extras, name=item_id, version=str(provenance.get("code_version", "")))
    return Asset(
        glb=glb,
        glb_sha256=hashlib.sha256(glb).hexdigest(),
        thumbnail_png=_thumbnail(final, thumbnail_size),
        mesh_stats=mesh_stats(final),
        notes=notes,
    )


def _shaped(mesh: Mesh, settings: FinishConfig) -> tuple[Mesh, tuple[str, ...]]:
    """The cleaned mesh after the steps that change its surface, and what they did."""
    notes = []
    mesh = clean(mesh)
    mesh, dropped = drop_small_components(mesh, settings.min_component_share)
    if dropped:
        notes.append(f"{dropped} small parts of the surface dropped")
    mesh, closed = fill_small_holes(mesh, settings.max_hole_edges)
    if closed:
        notes.append(f"{closed} holes closed")
    faces = len(mesh.faces)
    if settings.face_budget is not None and mesh.uvs is None:
        mesh = simplify(mesh, settings.face_budget)
    if len(mesh.faces) < faces:
        notes.append(f"simplified from {faces} faces")
    return clean(mesh) if notes else mesh, tuple(notes)


def _textured(
    mesh: Mesh,
    color_fn: Callable[[np.ndarray], np.ndarray] | None,
    centre: tuple[float, float, float],
    settings: FinishConfig,
) -> Mesh:
    """The mesh with a baked texture, or as it is where none is wanted or nothing has a colour."""
    if not settings.texture_size or mesh.uvs is not None:
        return mesh
    if color_fn is None and mesh.colors is None:
        return mesh
    from geco_core.mesh.bake import bake, vertex_color_fn  # noqa: PLC0415 - torch, and not always
    from geco_core.mesh.unwrap import unwrap  # noqa: PLC0415 - as above

    flat = unwrap(mesh, resolution=settings.texture_size, padding=settings.texture_padding)
    if color_fn is None:
        return bake(flat, vertex_color_fn(mesh), settings.texture_size)
    offset_3 = np.array(centre, dtype=np.float32)
    return bake(flat, lambda points: color_fn(points + offset_3), settings.texture_size)


def _thumbnail(mesh: Mesh, size: int) -> bytes:
    if not size:
        return b""
    from geco_core.mesh.thumbnail import thumbnail_png  # noqa: PLC0415 - torch, and not always

    return thumbnail_png(mesh, size=size)
