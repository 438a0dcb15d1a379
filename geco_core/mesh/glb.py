"""Binary glTF 2.0 writer: one mesh, one material, provenance in `asset.extras`, the same bytes for
the same input.

Follows the glTF 2.0 specification (Khronos); container, accessors and material come from trimesh
(`trimesh.exchange.gltf.export_glb`). What differs from its defaults:
- Vertices and faces stay as they are (`process=False`): nothing is merged, dropped or reordered,
  and normals are ours (`geco_core.mesh.normals`), not scaled again.
- COLOR_0 is LINEAR light in glTF while models speak sRGB, hence the conversion; 16 bits keep all
  256 sRGB levels apart, which 8 linear bits do not in the dark. trimesh writes 8-bit colours as
  they are, so ours travel as a custom attribute that is renamed in the finished document.
- A rough, non-metallic, double-sided material (metallic 0, roughness 1), with or without a texture,
  rather than KHR_materials_unlit: assets should react to the light of the scene they are put into.
- Textures are clamped and mip-mapped; without a sampler they would repeat.
- Generator, extras, names and buffer view targets are set in the finished document, as are the
  nodes: one, without a name that trimesh gave.
- trimesh stores equal arrays once; vertex attributes get their own copy (normals of a unit sphere
  equal its positions), since accessors that share a view need a stride.

trimesh writes 32-bit indices for every mesh. No timestamps, sorted extras, no padding other than
zero (space in the document): equal input gives equal bytes, for equal versions of trimesh and zlib.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from trimesh import Trimesh
from trimesh.exchange.gltf import export_glb
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from geco_core.imaging.srgb import srgb_to_linear
from geco_core.mesh.glb_read import Glb, GlbError, read_glb
from geco_core.mesh.normals import vertex_normals
from geco_core.types import Mesh

__all__ = ["GENERATOR", "Glb", "GlbError", "read_glb", "write_glb"]

GENERATOR = "GECO Forge"

_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_CLAMP_TO_EDGE, _LINEAR, _LINEAR_MIPMAP_LINEAR = 33071, 9729, 9987
# The underscore marks an application's own attribute: only those keep their component type.
_COLOR_ATTRIBUTE = "_LINEAR_COLOR"
_LINEAR_U16_OF_SRGB_U8 = np.rint(srgb_to_linear(np.arange(256) / 255.0) * 65535.0).astype(np.uint16)


def write_glb(
    mesh: Mesh,
    extras: Mapping[str, Any] | None = None,
    *,
    name: str = "asset",
    version: str = "",
    normals: bool = True,
) -> bytes:
    """The mesh as GLB bytes.

    Args:
        mesh: a checked mesh in the glTF frame (`geco_core.mesh.gate.check_mesh`).
        extras: JSON-compatible provenance for `asset.extras`; numpy scalars and tuples are
            accepted.
        name: of the node and the mesh.
        version: of the project, appended to `asset.generator`.
        normals: write smooth vertex normals; without them viewers shade faces flat.

    Raises:
        GlbError: extras or names that JSON can not carry (NaN, infinities, foreign objects, lone
            surrogates), an empty mesh, coordinates that are not finite, or colours or texture
            coordinates for another number of vertices.
    """
    asset: dict[str, Any] = {"version": "2.0", "generator": f"{GENERATOR} {version}".strip()}
    if extras:
        asset["extras"] = _plain(extras)
    labels = _json_value({"asset": asset, "name": name})
    _check_arrays(mesh)

    def finish(tree: dict[str, Any]) -> None:
        _finish_document(tree, **labels)

    return export_glb(
        _as_trimesh(mesh, normals),
        include_normals=normals,
        unitize_normals=False,
        tree_postprocessor=finish,
        buffer_postprocessor=_separate_views,
    )


def _check_arrays(mesh: Mesh) -> None:
    """Refuse what the exporter would leave out without an error, or write as invalid JSON."""
    if not len(mesh.faces) or not len(mesh.vertices):
        raise _refused("the mesh is empty")
    for label, values in (("colours", mesh.colors), ("texture coordinates", mesh.uvs)):
        if values is not None and len(values) != len(mesh.vertices):
            raise _refused(f"{len(values)} {label} for {len(mesh.vertices)} vertices")
    for values in (mesh.vertices, mesh.uvs):
        if values is not None and not np.isfinite(values).all():
            raise _refused("coordinates that are not finite")


def _as_trimesh(mesh: Mesh, normals: bool) -> Trimesh:
    """`mesh` for the exporter; float32 coordinates survive the way through its float64."""
    textured = mesh.uvs is not None and mesh.texture is not None
    material = PBRMaterial(
        name="surface",
        metallicFactor=0.0,
        roughnessFactor=1.0,
        doubleSided=True,
        baseColorTexture=Image.fromarray(np.ascontiguousarray(mesh.texture)) if textured else None,
    )
    attributes: dict[str, Any] = {}
    if mesh.colors is not None and mesh.texture is None:
        # Four components: three 16-bit ones would break the four-byte alignment of vertex
        # attributes.
        linear_N4 = np.full((len(mesh.colors), 4), 65535, dtype=np.uint16)
        linear_N4[:, :3] = _LINEAR_U16_OF_SRGB_U8[mesh.colors]
        attributes[_COLOR_ATTRIBUTE] = linear_N4
    return Trimesh(
        vertices=mesh.vertices.astype(np.float32),
        faces=mesh.faces,
        vertex_normals=vertex_normals(mesh) if normals else None,
        vertex_attributes=attributes,
        # A texture visual also without a texture: colour visuals have no material.
        visual=TextureVisuals(uv=mesh.uvs, material=material),
        process=False,
    )


def _separate_views(buffers: dict[Any, bytes], tree: dict[str, Any]) -> None:
    """Give every accessor a buffer view of its own: the exporter shares those of equal bytes."""
    contents = list(buffers.values())
    taken: set[int] = set()
    for accessor in tree["accessors"].values():
        if accessor["bufferView"] in taken:
            buffers["copy", len(buffers)] = contents[accessor["bufferView"]]
            accessor["bufferView"] = len(buffers) - 1
        taken.add(accessor["bufferView"])


def _finish_document(tree: dict[str, Any], asset: dict[str, Any], name: str) -> None:
    """Bring the exporter's glTF document into the shape the header of this file describes."""
    (mesh,) = tree["meshes"]
    (primitive,) = mesh["primitives"]
    attributes, accessors, views = primitive["attributes"], tree["accessors"], tree["bufferViews"]
    if _COLOR_ATTRIBUTE in attributes:
        attributes["COLOR_0"] = attributes.pop(_COLOR_ATTRIBUTE)
        accessors[attributes["COLOR_0"]]["normalized"] = True
    for accessor in attributes.values():
        views[accessors[accessor]["bufferView"]]["target"] = _ARRAY_BUFFER
    views[accessors[primitive["indices"]]["bufferView"]]["target"] = _ELEMENT_ARRAY_BUFFER
    for texture in tree.get("textures", ()):
        texture["sampler"] = 0
        wrap = {"wrapS": _CLAMP_TO_EDGE, "wrapT": _CLAMP_TO_EDGE}
        tree["samplers"] = [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, **wrap}]
    tree["asset"] = asset
    tree["scenes"] = [{"nodes": [0]}]
    tree["nodes"] = [{"mesh": 0, "name": name}]
    tree["meshes"] = [{"name": name, "primitives": [primitive]}]


def _json_value(value: dict[str, Any]) -> dict[str, Any]:
    """`value` with sorted keys, as a reader will get it."""
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return json.loads(text.encode())
    except (TypeError, ValueError) as error:
        raise _refused(f"asset.extras or the name can not be written as JSON: {error}") from error


def _refused(message: str) -> GlbError:
    return GlbError(message, remedy="pass plain, finite values", stage="finish")


def _plain(value: object) -> Any:
    """`value` with mappings as dicts, sequences as lists and numpy scalars as Python numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [_plain(entry) for entry in entries]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return value
