"""From a shaped mesh to the bytes of its file: texture, glTF, compression.

Legend: P points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geco_core.config.finish import FinishConfig
from geco_core.mesh.glb import read_glb, write_glb
from geco_core.types import Mesh


@dataclass(frozen=True)
class Encoder:
    """Encodes the levels of one object.

    Attributes:
        full: the finished mesh, centred; textures are baked from its vertex colours where there is
            no field.
        color_fn: `Mesh.color_fn` of what the model made, in its own frame.
        centre: the point of that frame that became the origin.
        settings: of finishing.
        name: of the node and the mesh.
        extras: `asset.extras`.
    """

    full: Mesh
    color_fn: Callable[[np.ndarray], np.ndarray] | None
    centre: tuple[float, float, float]
    settings: FinishConfig
    name: str
    extras: Mapping[str, Any]

    def encode(self, mesh: Mesh, texture_size: int, **extras: Any) -> tuple[bytes, Mesh]:
        """The GLB of a mesh, and the mesh that it holds.

        Args:
            mesh: the full mesh or a level of it.
            texture_size: side in texels; 0 keeps vertex colours.
            extras: further entries of `asset.extras`.

        Raises:
            BadItem: it can not be textured.
            GlbError: it can not be written.
        """
        final = self._textured(mesh, texture_size)
        version = str(self.extras.get("code_version", ""))
        glb = write_glb(final, {**self.extras, **extras}, name=self.name, version=version)
        if self.settings.compression == "none":
            return glb, final
        from geco_core.mesh.draco import compressed  # noqa: PLC0415 - optional

        glb = compressed(glb)
        # Rounded, reordered: what the row says about the mesh is true of the file.
        return glb, replace(read_glb(glb).mesh, texture=final.texture)

    def _textured(self, mesh: Mesh, size: int) -> Mesh:
        """The mesh with a baked texture, or as it is where none is wanted or nothing has a
        colour.
        """
        if not size or mesh.uvs is not None or (self.color_fn is None and self.full.colors is None):
            return mesh
        from geco_core.mesh.bake import bake, vertex_color_fn  # noqa: PLC0415 - torch
        from geco_core.mesh.unwrap import unwrap  # noqa: PLC0415 - native

        flat = unwrap(mesh, resolution=size, padding=self.settings.texture_padding)
        if self.color_fn is None:
            return bake(flat, vertex_color_fn(self.full), size)
        field, offset_3 = self.color_fn, np.array(self.centre, dtype=np.float32)
        return bake(flat, lambda points_P3: field(points_P3 + offset_3), size)
