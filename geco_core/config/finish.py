"""Settings of finishing: what happens to a mesh between the model and its file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

MIN_FACES = 4  # of a closed surface


@dataclass(frozen=True)
class FinishConfig:
    """Steps of finishing, in their order; by default none changes the surface.

    Attributes:
        min_component_share: parts of the surface with a smaller share of its area are dropped; 0
            keeps all.
        max_hole_edges: holes with at most this many edges are closed; 0 closes none.
        face_budget: meshes with more faces are simplified to about this many; None leaves them.
        texture_size: side of the texture in texels; 0 keeps vertex colours. Meshes that can not be
            unwrapped in time keep them too, with a note in the row.
        texture_padding: texels between charts.
        lods: further levels of detail, each a GLB in the column `lods`: shares of the faces of the
            finished mesh, e.g. (0.5, 0.25), or numbers of faces, e.g. (5000, 1000); decreasing.
        compression: `draco` compresses the geometry of every GLB; it needs the package DracoPy,
            here and where the GLBs are read.
    """

    min_component_share: float = 0.0
    max_hole_edges: int = 0
    face_budget: int | None = None
    texture_size: int = 0
    texture_padding: int = 2
    lods: tuple[float, ...] = ()
    compression: Literal["none", "draco"] = "none"

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_component_share < 1.0:
            raise ValueError(
                f"min_component_share must be within 0 and 1, got {self.min_component_share}"
            )
        for name in ("max_hole_edges", "texture_size", "texture_padding"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.face_budget is not None and self.face_budget < MIN_FACES:
            raise ValueError(f"face_budget must be at least {MIN_FACES}, got {self.face_budget}")
        check_lods(self.lods)


def check_lods(lods: tuple[float, ...]) -> None:
    """Raise `ValueError` unless all are shares of the faces or all are numbers of faces,
    decreasing.
    """
    shares = all(0.0 < level < 1.0 for level in lods)
    budgets = all(level >= MIN_FACES and level == int(level) for level in lods)
    if not (shares or budgets):
        raise ValueError(
            "lods must all be shares within 0 and 1 or all numbers of faces of at least "
            f"{MIN_FACES}, got {list(lods)}"
        )
    if any(finer <= coarser for finer, coarser in pairwise(lods)):
        raise ValueError(f"lods must decrease, got {list(lods)}")
