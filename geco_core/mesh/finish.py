"""From a generated mesh to a finished asset: gate, clean, centre, measure, draw, write.

Deterministic: the same mesh, item, seed and provenance give the same bytes in any process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from geco_core.mesh.clean import centred, clean
from geco_core.mesh.gate import check_mesh
from geco_core.mesh.glb import write_glb
from geco_core.mesh.inspect import mesh_stats
from geco_core.types import Asset, Mesh

EXTRAS_FORMAT = 1


def finish_mesh(
    mesh: Mesh,
    *,
    item_id: str,
    seed: int,
    provenance: Mapping[str, Any],
    thumbnail_size: int = 128,
    source_sha256: str = "",
) -> Asset:
    """Check, clean, centre, measure, draw and write one mesh.

    Args:
        mesh: as a system returned it, glTF frame.
        item_id: the item it was made for.
        seed: the seed it was made with.
        provenance: `System.provenance()`: digests, licences, versions. Goes into `asset.extras` as
            it is.
        thumbnail_size: side of the preview in pixels; 0 for none.
        source_sha256: digest of the source bytes.

    Returns:
        The asset. `asset.extras` of the GLB holds `format`, `item_id`, `seed`, `source_sha256`,
        `center_offset` (the point of the model's frame that became the origin, glTF axes) and the
        provenance.

    Raises:
        BadItem: the mesh does not pass the gate (see `check_mesh`), before or after cleaning.
    """
    check_mesh(mesh, item_id=item_id)
    mesh, centre = centred(clean(mesh))
    check_mesh(mesh, item_id=item_id)
    extras = {
        **provenance,
        "format": EXTRAS_FORMAT,
        "item_id": item_id,
        "seed": seed,
        "source_sha256": source_sha256,
        "center_offset": centre,
    }
    glb = write_glb(mesh, extras, name=item_id, version=str(provenance.get("code_version", "")))
    return Asset(
        glb=glb,
        glb_sha256=hashlib.sha256(glb).hexdigest(),
        thumbnail_png=_thumbnail(mesh, thumbnail_size) if thumbnail_size else b"",
        mesh_stats=mesh_stats(mesh),
    )


def _thumbnail(mesh: Mesh, size: int) -> bytes:
    from geco_core.mesh.thumbnail import thumbnail_png  # noqa: PLC0415 - it brings torch: seconds

    return thumbnail_png(mesh, size=size)
