"""Numbers about a mesh for its row: counts, bounds, watertightness, components, area, volume."""

from __future__ import annotations

from typing import Any

from geco_core.mesh.surface import Surface, measured
from geco_core.types import Mesh


def mesh_stats(mesh: Mesh, surface: Surface | None = None) -> dict[str, Any]:
    """Statistics of a checked mesh (`geco_core.mesh.gate.check_mesh`).

    Args:
        mesh: as it is written.
        surface: the mesh, measured; None measures it.

    Returns:
        n_vertices, n_faces: as stored.
        bounds: six floats, minimum xyz then maximum xyz.
        watertight: every edge joins exactly two faces, which run along it in opposite directions.
        components: connected parts of the surface, joined through shared corners.
        surface_area: in squared units of the mesh.
        volume: enclosed volume, positive when faces point outward; None unless watertight.
    """
    surface = surface or measured(mesh)
    watertight = surface.watertight
    low_3, high_3 = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return {
        "n_vertices": len(mesh.vertices),
        "n_faces": len(mesh.faces),
        "bounds": [float(value) for value in (*low_3, *high_3)],
        "watertight": watertight,
        "components": surface.count,
        "surface_area": float(surface.areas.sum()),
        "volume": float(surface.part_volumes().sum()) if watertight else None,
    }
