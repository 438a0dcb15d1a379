"""From a generated mesh to a finished asset: gate, clean, shape, centre, texture, write, measure.

Deterministic: the same mesh, item, seed, settings and provenance give the same bytes in any
process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from geco_core.config.finish import FinishConfig
from geco_core.mesh.clean import centred, clean
from geco_core.mesh.components import drop_small_components
from geco_core.mesh.encode import Encoder
from geco_core.mesh.gate import check_mesh
from geco_core.mesh.holes import fill_small_holes
from geco_core.mesh.inspect import mesh_stats
from geco_core.mesh.levels import level_chain, level_texture_size
from geco_core.mesh.qc import mesh_qc
from geco_core.mesh.simplify import simplify
from geco_core.mesh.surface import measured
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
    """Check, clean, shape, centre, texture, write, measure and draw one mesh.

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
        provenance. `columns` has `qc` (`geco_core.mesh.qc`), and `lods` where levels are wanted:
        `n_vertices`, `n_faces`, `glb` and `glb_sha256` of each, whose extras say `lod`, from 1.

    Raises:
        BadItem: the mesh does not pass the gate (see `check_mesh`), before or after shaping, or can
            not be textured.
        GlbError: it can not be written.
    """
    check_mesh(mesh, item_id=item_id)
    color_fn = mesh.color_fn
    cleaned = clean(mesh)
    shaped, notes = _shaped(cleaned, settings)
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
    encoder = Encoder(shaped, color_fn, centre, settings, item_id, extras)
    glb, final = encoder.encode(shaped, settings.texture_size)
    surface = measured(final)
    collapsed = len(mesh.faces) - len(cleaned.faces)
    columns: dict[str, Any] = {"qc": mesh_qc(final, surface, collapsed_faces=collapsed)}
    if settings.lods and mesh.uvs is None:
        columns["lods"] = _levels(encoder)
    elif settings.lods:
        notes = (*notes, "no levels of detail: the mesh came with texture coordinates")
    return Asset(
        glb=glb,
        glb_sha256=hashlib.sha256(glb).hexdigest(),
        thumbnail_png=_thumbnail(final, thumbnail_size),
        mesh_stats=mesh_stats(final, surface),
        notes=notes,
        columns=columns,
    )


def _levels(encoder: Encoder) -> list[dict[str, Any]]:
    """The column `lods`."""
    full, settings = encoder.full, encoder.settings
    rows = []
    for number, level in enumerate(level_chain(full, settings.lods), start=1):
        size = level_texture_size(settings.texture_size, len(level.faces), len(full.faces))
        glb, final = encoder.encode(level, size, lod=number)
        rows.append(
            {
                "n_vertices": len(final.vertices),
                "n_faces": len(final.faces),
                "glb": glb,
                "glb_sha256": hashlib.sha256(glb).hexdigest(),
            }
        )
    return rows


def _shaped(mesh: Mesh, settings: FinishConfig) -> tuple[Mesh, tuple[str, ...]]:
    """A cleaned mesh after the steps that change its surface, and what they did."""
    notes = []
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


def _thumbnail(mesh: Mesh, size: int) -> bytes:
    if not size:
        return b""
    from geco_core.mesh.thumbnail import thumbnail_png  # noqa: PLC0415 - torch, and not always

    return thumbnail_png(mesh, size=size)
