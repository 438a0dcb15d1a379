"""Reference meshes from files of any origin: GLB, OBJ (with material and texture), PLY, OFF, STL.

Files come from a dataset that somebody else made, so the sizes are limited before and after
parsing, companions (material libraries, textures) come through a function that the caller controls,
and whatever the parser raises ends as a `BadItem` with a reason. GLBs that this project wrote are
read by its own reader, which knows no materials; trimesh reads the rest.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import trimesh
from PIL import Image
from trimesh.resolvers import Resolver
from trimesh.visual.color import ColorVisuals
from trimesh.visual.material import PBRMaterial, empty_material
from trimesh.visual.texture import TextureVisuals

from geco_core.errors import BadItem, ConfigError, ForgeError, Reason, Retryable
from geco_core.imaging.srgb import linear_to_srgb
from geco_core.mesh.draco import is_compressed, require_draco
from geco_core.mesh.glb import GENERATOR, GlbError, read_glb
from geco_core.mesh.glb_container import split
from geco_core.types import Mesh

KINDS = (".glb", ".obj", ".ply", ".off", ".stl")
MAX_BYTES = 256 << 20
MAX_FACES = 2_000_000
MAX_TEXTURE_PIXELS = 64_000_000
STAGE = "evaluate"

Companion = Callable[[str], bytes]
"""Name of a file beside the mesh -> its bytes; raises `KeyError` when there is none."""


def read_mesh(
    data: bytes, kind: str, companion: Companion | None = None, item_id: str | None = None
) -> Mesh:
    """One mesh with colours or a texture where the file has them, in the file's own frame.

    Args:
        data: the file.
        kind: its suffix, of `KINDS`.
        companion: reads the files it names; None: they count as absent.
        item_id: for errors.

    Raises:
        BadItem: too large, unreadable, without triangles, or with values that are not finite.
        ConfigError: the geometry is compressed and DracoPy is not installed.
        Retryable: a companion could not be read this time.
    """
    if kind not in KINDS:
        raise _bad(Reason.UNSUPPORTED_INPUT, f"{kind} files are not read", item_id)
    if len(data) > MAX_BYTES:
        raise _bad(Reason.TOO_MANY_BYTES, f"{len(data):,} bytes, {MAX_BYTES:,} are read", item_id)
    try:
        mesh = _own_glb(data) if kind == ".glb" else None
        mesh = _by_trimesh(data, kind, companion) if mesh is None else mesh
    except (ConfigError, Retryable):
        raise
    except BadItem as error:
        raise _bad(error.reason, error.message, item_id) from error
    except Exception as error:
        # Whatever a parser of foreign files raises concerns this file alone.
        text = f"it does not parse ({type(error).__name__}: {error})"
        raise _bad(Reason.INVALID_MESH, text[:300], item_id) from error
    return _checked(mesh, item_id)


def _own_glb(data: bytes) -> Mesh | None:
    """The mesh of a GLB that says it is ours and reads as one, else None."""
    try:
        root = split(data)[0]
        if is_compressed(root):
            require_draco("this compressed GLB")
        asset = root.get("asset")
        generator = asset.get("generator") if isinstance(asset, dict) else None
        return read_glb(data).mesh if str(generator).startswith(GENERATOR) else None
    except (GlbError, ValueError):
        return None


def _by_trimesh(data: bytes, kind: str, companion: Companion | None) -> Mesh:
    companions = _Companions(companion)
    loaded: Any = trimesh.load(
        io.BytesIO(data), file_type=kind[1:], process=False, resolver=companions
    )
    if companions.failed is not None:
        raise companions.failed
    if isinstance(loaded, trimesh.Scene):
        _check_faces(_scene_faces(loaded))
        if kind == ".glb":
            for part in loaded.geometry.values():
                _keep_colors(part)
        parts = [part for part in loaded.dump() if isinstance(part, trimesh.Trimesh)]
        loaded = trimesh.util.concatenate(parts) if parts else None
    if not isinstance(loaded, trimesh.Trimesh) or not len(loaded.faces):
        raise BadItem("it holds no triangles", reason=Reason.EMPTY_MESH)
    _check_faces(len(loaded.faces))
    vertices = np.asarray(loaded.vertices, dtype=np.float32)
    faces = np.asarray(loaded.faces, dtype=np.int32)
    visual: Any = loaded.visual
    if isinstance(visual, TextureVisuals):
        return _textured(vertices, faces, visual)
    if isinstance(visual, ColorVisuals) and visual.kind == "face":
        colors = np.repeat(np.asarray(visual.face_colors)[:, :3], 3, axis=0)
        split = np.arange(3 * len(faces), dtype=np.int32).reshape(-1, 3)
        return Mesh(vertices[faces.reshape(-1)], split, colors=colors.astype(np.uint8))
    if isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        colors = np.asarray(visual.vertex_colors)[:, :3].astype(np.uint8)
        return Mesh(vertices, faces, colors=colors)
    return Mesh(vertices, faces)


def _check_faces(count: int) -> None:
    if count > MAX_FACES:
        raise BadItem(f"{count:,} faces, {MAX_FACES:,} are read", reason=Reason.INVALID_MESH)


def _scene_faces(scene: trimesh.Scene) -> int:
    """Faces of all places of all parts: a small file may place one part a million times."""
    return sum(
        len(nodes) * len(getattr(scene.geometry[name], "faces", ()))
        for name, nodes in scene.graph.geometry_nodes.items()
    )


def _textured(vertices: np.ndarray, faces: np.ndarray, visual: Any) -> Mesh:
    """With the base colour texture, or its main colour where there is no image."""
    material = visual.material
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if isinstance(image, Image.Image) and _is_placeholder(image):
        return Mesh(vertices, faces)
    if visual.uv is not None and isinstance(image, Image.Image):
        if image.width * image.height > MAX_TEXTURE_PIXELS:
            message = f"a texture of {image.width} x {image.height} pixels"
            raise BadItem(message, reason=Reason.IMAGE_TOO_LARGE)
        texture = np.asarray(image.convert("RGB"))
        uvs = np.asarray(visual.uv, dtype=np.float32)
        return Mesh(vertices, faces, uvs=uvs, texture=texture)
    color = np.asarray(material.main_color)[:3].astype(np.uint8)
    if isinstance(material, PBRMaterial):  # of a GLB, whose factors are linear light
        color = np.rint(linear_to_srgb(color / 255.0) * 255.0).astype(np.uint8)
    return Mesh(vertices, faces, colors=np.tile(color, (len(vertices), 1)))


def _is_placeholder(image: Image.Image) -> bool:
    """Whether this is the grey that trimesh puts where a file has coordinates but no texture."""
    grey: Any = empty_material().image
    return image.size == grey.size and np.array_equal(np.asarray(image), np.asarray(grey))


def _keep_colors(part: Any) -> None:
    """Vertex colours of a GLB as sRGB: they are linear light there, and trimesh loses those of
    parts with a material as soon as it copies them.
    """
    if not isinstance(part, trimesh.Trimesh):
        return
    given = np.asarray(getattr(part.visual, "vertex_attributes", {}).get("color", ()))
    if isinstance(part.visual, ColorVisuals) and part.visual.kind == "vertex":
        given = np.asarray(part.visual.vertex_colors)
    if given.ndim != 2 or given.shape[0] != len(part.vertices) or given.shape[1] < 3:
        return
    material = getattr(part.visual, "material", None)
    if getattr(material, "baseColorTexture", None) is not None:
        return
    top = 1.0
    if given.dtype.kind == "u":  # of 8 or 16 bits; decompressed ones come in wider integers
        wide = given.dtype.itemsize == 2 or int(given.max()) > 255
        top = 65535.0 if wide else 255.0
    encoded = linear_to_srgb(np.clip(given[:, :3] / top, 0.0, 1.0)) * 255.0
    part.visual = ColorVisuals(part, vertex_colors=np.rint(encoded).astype(np.uint8))


def _checked(mesh: Mesh, item_id: str | None) -> Mesh:
    if not np.isfinite(mesh.vertices).all():
        raise _bad(Reason.NON_FINITE, "it holds values that are not finite", item_id)
    if not len(mesh.faces):
        raise _bad(Reason.EMPTY_MESH, "it holds no triangles", item_id)
    if int(mesh.faces.min()) < 0 or int(mesh.faces.max()) >= len(mesh.vertices):
        raise _bad(Reason.INVALID_MESH, "an index is out of range", item_id)
    extent = float(np.ptp(mesh.vertices.astype(np.float64), axis=0).max())
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if extent <= 0 or not normals.any():
        raise _bad(Reason.EMPTY_MESH, "its surface has no area", item_id)
    if mesh.uvs is not None and not np.isfinite(mesh.uvs).all():
        raise _bad(Reason.NON_FINITE, "texture coordinates are not finite", item_id)
    return mesh


def _bad(reason: Reason, message: str, item_id: str | None) -> BadItem:
    return BadItem(message, reason=reason, item_id=item_id, stage=STAGE)


class _Companions(Resolver):
    """trimesh's door to other files, which leads to the caller's function only.

    trimesh goes on without a companion that fails, whatever the error: `failed` keeps the first
    one of those that are no plain absence.
    """

    def __init__(self, companion: Companion | None) -> None:
        self.failed: ForgeError | None = None
        self._companion = companion

    def get(self, key: str) -> bytes:
        """The bytes of a companion. Raises `FileNotFoundError`."""
        plain = key.strip().removeprefix("./")
        outside = ".." in plain.split("/") or plain[:1] in ("/", "~") or "://" in plain
        if self._companion is None or not plain or outside:
            raise FileNotFoundError(key)
        try:
            data = self._companion(plain)
            if len(data) > MAX_BYTES:
                raise BadItem(f"{key} has {len(data):,} bytes", reason=Reason.TOO_MANY_BYTES)
        except KeyError:
            raise FileNotFoundError(key) from None
        except ForgeError as error:
            self.failed = self.failed or error
            raise
        return data

    def keys(self) -> list[str]:
        """Names are not listed."""
        return []

    def namespaced(self, namespace: str) -> _Companions:
        """The same door: names stay relative to the mesh."""
        del namespace
        return self

    def write(self, name: str, data: bytes) -> None:
        """Never. Raises `PermissionError`."""
        raise PermissionError(f"{name} is not written ({len(data)} bytes)")
