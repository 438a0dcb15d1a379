"""The few nouns everything speaks.

Frames. Models work in the *world* frame: right-handed, z up, the front of an object faces +x. A
`Mesh` is in the *glTF* frame: right-handed, y up, the front faces +z. `geco_core.mesh.frames` holds
the one rotation between them.

Legend: B batch, V views, H height, W width, N vertices, F faces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from geco_core.errors import BadItem, Reason

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Item:
    """One manifest row.

    Attributes:
        item_id: unique within the manifest.
        image: a URI or path (str), or the encoded image itself (bytes); None for prompt items.
        prompt: text, for systems that read prompts.
        seed: overrides the derived seed when given; 0 <= seed < 2**63.
        passthrough: the manifest's other columns, copied to the output row unchanged.
    """

    item_id: str
    image: str | bytes | None = None
    prompt: str | None = None
    seed: int | None = None
    passthrough: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Condition:
    """What a system consumes: an image framed to the system's convention, or a prompt.

    Attributes:
        item_id: the item it was prepared from.
        rgba: uint8 [H, W, 4], straight alpha, sRGB, row 0 at the top; None for prompts.
        prompt: text; None for images.
        source_sha256: hex digest of the source bytes (or of the UTF-8 prompt).
        notes: remarks worth keeping in the row, e.g. "animated: frame 0 of 12 used".
    """

    item_id: str
    rgba: np.ndarray | None = None
    prompt: str | None = None
    source_sha256: str = ""
    notes: tuple[str, ...] = ()


@dataclass
class MultiView:
    """Images of one object per batch row from a fixed rig.

    Attributes:
        images: float [B, V, 3, H, W] in [0, 1], white background, row 0 at the top.
        cameras: float [B, V, 16], the encoder camera of `geco_core.cameras` (3x4 camera-to-world,
            fx, fy, cx, cy).
    """

    images: torch.Tensor
    cameras: torch.Tensor


@dataclass
class Mesh:
    """A triangle mesh in the glTF frame (right-handed, y up, front +z), on the host.

    Attributes:
        vertices: float32 [N, 3].
        faces: int32 [F, 3], counter-clockwise seen from outside.
        colors: uint8 [N, 3] sRGB vertex colours, or None.
        uvs: float32 [N, 2] in [0, 1], origin at the lower left, or None.
        texture: uint8 [H, W, 3] sRGB base colour, row 0 at the top, or None.
        color_fn: what the model says about colour anywhere: points float32 [P, 3] in the frame of
            `vertices` to sRGB float [P, 3] in [0, 1]; picklable. Textures are baked from it; None
            bakes them from the vertex colours.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None
    uvs: np.ndarray | None = None
    texture: np.ndarray | None = None
    color_fn: Callable[[np.ndarray], np.ndarray] | None = None


class Status(StrEnum):
    """Terminal states of an item."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Outcome:
    """The terminal state of one item.

    Attributes:
        item_id: the item.
        status: done, failed or skipped.
        seed: the seed the item was (or would have been) generated with.
        reason: a code of `Reason` unless done.
        message: one sentence for people, empty when done.
        stage: the stage that decided, empty when done.
        attempts: how many times generation was tried.
        asset: the finished asset when done.
        timing: seconds spent per stage, attributed to this item.
        source_sha256: digest of the source bytes when they were read.
        notes: remarks of preparation (`Condition.notes`).
    """

    item_id: str
    status: Status
    seed: int
    reason: Reason | None = None
    message: str = ""
    stage: str = ""
    attempts: int = 1
    asset: Asset | None = None
    timing: Mapping[str, float] = field(default_factory=dict)
    source_sha256: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asset:
    """A finished asset: the file, its digest, a preview and numbers about the mesh.

    Attributes:
        glb: the binary glTF.
        glb_sha256: its hex digest.
        thumbnail_png: a small render, PNG bytes.
        mesh_stats: n_vertices, n_faces, bounds (6 floats: min xyz, max xyz), watertight,
            components, surface_area, volume.
        notes: remarks of finishing, e.g. "2 small parts dropped".
        columns: values of the columns a system adds to the row (`infra.extra_columns`).
    """

    glb: bytes
    glb_sha256: str
    thumbnail_png: bytes
    mesh_stats: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MeshRow:
    """A mesh to be finished, with values of the columns its system adds to the row, and remarks."""

    mesh: Mesh
    columns: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """What a teacher made of one condition: what distillation trains on.

    The initial noise is not stored: `z` makes it again from the seed. K renders of side R.

    Attributes:
        item_id: of the manifest row.
        seed: of every draw of the item.
        condition: uint8 [S, S, 3] sRGB, framed, on the teacher's background.
        latents: float16 [c, H, W], the teacher's sample of the tile as its U-Net sees it; [0] where
            it was not read.
        renders: uint8 [K, R, R, 4], straight alpha = mask, white where alpha is 0.
        w2c: float32 [K, 4, 4], world-to-camera of the renders, OpenGL axes.
        fov_deg: vertical field of view of the renders.
        key: content address: hex digest of condition, seed, teacher and settings.
        teacher_digest: hex digest of the teacher's weights and configuration.
        digests: `condition`, `settings`, `weights`: what else the key is made of, hex.
    """

    item_id: str
    seed: int
    condition: np.ndarray
    latents: np.ndarray
    renders: np.ndarray
    w2c: np.ndarray
    fov_deg: float
    key: str
    teacher_digest: str
    digests: Mapping[str, str] = field(default_factory=dict)

    def z(self, shape: Sequence[int]) -> torch.Tensor:
        """The noise the teacher's sample started from, float32 [*shape].

        `shape` is that of the latents, (c, H, W).
        """
        from geco_core.diffusion.noise import INITIAL, ItemNoise  # noqa: PLC0415 - torch is slow

        return ItemNoise([self.seed]).draw(INITIAL, shape)[0]


@dataclass(frozen=True)
class Shard:
    """A contiguous range of manifest rows: the unit of scheduling, commit and resume.

    Attributes:
        index: position in the plan, from 0.
        start: first row (inclusive) in manifest order.
        stop: last row (exclusive).
    """

    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """`000012`: the form used in file names; sorts like the index."""
        return f"{self.index:06d}"


Generated = Mesh | MeshRow | Asset | BadItem  # an Asset is finished already and stored as it is


@runtime_checkable
class System(Protocol):
    """A generator of meshes.

    `prepare` runs on the CPU, concurrently with the device work of other items; `generate` runs on
    the device under a lock, batched. A bad member never fails its batch: its slot holds a
    `BadItem`.
    """

    name: str
    preset: str
    batch_size: int

    def prepare(self, item: Item) -> Condition:
        """Decode and frame one item. Raises `BadItem`."""
        ...

    def generate(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        """One result per condition, in order.

        The same (condition, seed) gives the same mesh in any batch.
        """
        ...

    def provenance(self) -> Mapping[str, Any]:
        """What is recorded in every row and GLB.

        `weights_digest`, `config_digest`, `licences` (list of str).
        """
        ...

    def timing(self) -> Mapping[str, float]:
        """Seconds per stage of the last `generate` call (whole batch)."""
        ...


@runtime_checkable
class Teacher(Protocol):
    """A system that also yields targets: its two halves, callable apart."""

    def multiview(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> MultiView:
        """Views of every condition from the rig of the system."""
        ...

    def reconstruct(self, views: MultiView) -> list[Generated]:
        """One mesh per row of views; a bad row holds its `BadItem`."""
        ...


def seed_for(item: Item, run_seed: int) -> int:
    """The item's own seed, else a hash of (run seed, item id).

    0 <= seed < 2**63, the same on every machine and Python.
    """
    if item.seed is not None:
        return int(item.seed)
    digest = hashlib.sha256(f"{run_seed}\x00{item.item_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
