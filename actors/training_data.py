"""Training data by row number: teacher targets, or the condition images of a manifest."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from geco_core.config.run import ColumnsConfig, FetchConfig, RunConfig, S3Config
from geco_core.distill.stage1 import TeacherPairs
from geco_core.distill.stage2 import Stage2Batch
from geco_core.distill.targets import over_white, target_condition
from geco_core.errors import BadItem, ConfigError, Fatal
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.types import Condition, Item, Shard, Target
from infra.fetch import Fetcher
from infra.locate import locate
from infra.manifest import read_manifest
from infra.plan import load_duplicates
from infra.retry import retried
from infra.rows import RowReader
from infra.storage import Storage

CACHED_BYTES = 512 << 20
STAGE = "train"


class Targets(Protocol):
    """Stored targets, see `infra.targets.TargetTable`."""

    @property
    def keys(self) -> Sequence[str]:
        """Content address of every row."""
        ...

    def __len__(self) -> int:
        """Number of targets."""
        ...

    def read(
        self, rows: Sequence[int], *, renders: Any = None, latents: bool = True
    ) -> list[Target]:
        """Targets of some rows; `renders` and `latents` choose what is read of them."""
        ...


class TargetData:
    """`Stage1Data` and `Stage2Data` over stored targets.

    Args:
        table: of a finished targets run.
        model: of the teacher; says what sizes are expected.
        pairs: whether Stage I is given the teacher's samples too.

    Raises:
        Fatal: there are no targets.
        ConfigError: conditions of another size than the teacher's.
    """

    def __init__(self, table: Targets, model: Zero123Plus, *, pairs: bool) -> None:
        if not len(table):
            raise Fatal(
                "there are no teacher targets to train on",
                stage=STAGE,
                remedy="see why the items of the targets run failed: geco status",
            )
        self._table, self._pairs = table, pairs
        self._latent_shape, self._device = model.latent_shape, model.device
        (self._first,) = table.read([0], latents=False)
        side, wanted = self._first.condition.shape[0], model.config.condition_size
        if side != wanted:
            raise ConfigError(
                f"the targets hold conditions of {side} pixels, the teacher reads {wanted}",
                remedy="make the targets with this teacher",
            )

    def __len__(self) -> int:
        """Number of targets."""
        return len(self._table)

    @property
    def renders(self) -> int:
        """Stored renders of every target."""
        return len(self._first.renders)

    @property
    def render_size(self) -> int:
        """Their side in pixels."""
        return int(self._first.renders.shape[1])

    @property
    def weights_digest(self) -> str:
        """Of the teacher that made them."""
        return str(self._first.digests.get("weights", ""))

    @property
    def digest(self) -> str:
        """Of what is trained on: the targets by content, in their order."""
        return hashlib.sha256("\n".join(self._table.keys).encode()).hexdigest()

    def images(self, rows: Tensor) -> Tensor:
        """Framed conditions, float [b, 3, S, S] in [0, 1]."""
        targets = self._read(rows, renders=(), latents=False)
        return _images([target.condition for target in targets]).to(self._device)

    def pairs(self, rows: Tensor) -> TeacherPairs | None:
        """The teacher's samples and the noise they started from; None where they are not wanted."""
        if not self._pairs:
            return None
        targets = self._read(rows, renders=(), latents=True)
        latents = torch.from_numpy(np.stack([t.latents for t in targets])).float()
        return TeacherPairs(self._noise(targets).to(self._device), latents.to(self._device))

    def batch(self, rows: Tensor, views_BK: Tensor) -> Stage2Batch:
        """Conditions, noise and the chosen renders."""
        targets = self._read(rows, renders=views_BK.tolist(), latents=False)
        renders, masks = over_white(np.stack([t.renders for t in targets]))
        return Stage2Batch(
            images=_images([t.condition for t in targets]),
            z=self._noise(targets),
            renders=renders,
            masks=masks,
            w2c=torch.from_numpy(np.stack([t.w2c for t in targets])).float(),
            fov_deg=self._first.fov_deg,
        )

    def _noise(self, targets: Sequence[Target]) -> Tensor:
        return torch.stack([target.z(self._latent_shape) for target in targets])

    def _read(self, rows: Tensor, *, renders: Any, latents: bool) -> list[Target]:
        numbers = [int(row) for row in rows]
        return retried(lambda: self._table.read(numbers, renders=renders, latents=latents))


class Framing(Protocol):
    """The teacher's CPU half."""

    def prepare(self, item: Item) -> Condition:
        """Decode, cut out and frame one item. Raises `BadItem`."""
        ...


class ImageData:
    """`Stage1Data` over the images of a manifest, framed as the teacher frames them.

    An image that can not be framed is replaced by the next one that can, which depends on the
    manifest alone, so that every process and every attempt sees the same.

    Args:
        read: the item of a row, with its image as bytes. Raises `BadItem`.
        length: rows.
        digest: of the manifest.
        teacher: frames.
        model: the teacher's; its background, size and device.
        cached_bytes: framed images kept in memory.
    """

    def __init__(
        self,
        read: Callable[[int], Item],
        length: int,
        digest: str,
        teacher: Framing,
        model: Zero123Plus,
        cached_bytes: int = CACHED_BYTES,
    ) -> None:
        self.digest = digest
        self._read, self._length = read, length
        self._teacher, self._config, self._device = teacher, model.config, model.device
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._limit = max(1, cached_bytes // (3 * model.config.condition_size**2))
        self._bad: dict[int, str] = {}

    def __len__(self) -> int:
        """Number of rows of the manifest."""
        return self._length

    @property
    def bad(self) -> dict[int, str]:
        """Rows that could not be used so far, and why."""
        return dict(self._bad)

    def images(self, rows: Tensor) -> Tensor:
        """Framed conditions, float [b, 3, S, S] in [0, 1].

        Raises:
            Fatal: no image of the manifest can be framed.
        """
        return _images([self._image(int(row)) for row in rows]).to(self._device)

    def pairs(self, rows: Tensor) -> TeacherPairs | None:  # noqa: ARG002 - the protocol's
        """None: images come without teacher samples."""
        return None

    def _image(self, row: int) -> np.ndarray:
        for step in range(self._length):
            image = self._framed((row + step) % self._length)
            if image is not None:
                return image
        raise Fatal(
            f"none of the {self._length} images can be used, the first because "
            f"{self._bad.get(0, 'it is bad')}",
            stage=STAGE,
            remedy="check the manifest of conditions",
        )

    def _framed(self, row: int) -> np.ndarray | None:
        if row in self._bad:
            return None
        if row not in self._kept:
            try:
                condition = self._teacher.prepare(retried(lambda: self._read(row)))
            except BadItem as error:
                self._bad[row] = error.message
                return None
            assert condition.rgba is not None
            self._kept[row] = target_condition(condition.rgba, self._config)
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end(row)
        return self._kept[row]


def open_images(
    source: str, storage: Storage, teacher: Framing, model: Zero123Plus, s3: S3Config
) -> ImageData:
    """The images of a manifest, or of a folder of them.

    Args:
        source: as `--manifest` of `geco generate`.
        storage: of the stage; a manifest that is no Parquet file is normalised into it.
        teacher, model: see `ImageData`.
        s3: how S3 is reached.

    Raises:
        ManifestError: the manifest is refused.
    """
    limits = RunConfig()
    located = locate(source, s3)
    manifest = read_manifest(located, ColumnsConfig(), storage)
    duplicates = load_duplicates(manifest, storage, s3)
    reader = RowReader(manifest, storage, duplicates, s3)
    fetcher = Fetcher(FetchConfig(), s3, roots=(manifest.base,), max_bytes=limits.max_source_bytes)

    def read(row: int) -> Item:
        found = reader.read(Shard(0, row, row + 1)).rows[0]
        if found.problem is not None:
            raise BadItem(
                found.problem.message, reason=found.problem.reason, item_id=found.item.item_id
            )
        image = found.item.image
        if isinstance(image, str):
            image = fetcher.fetch(image, found.item.item_id)
        return replace(found.item, image=image)

    return ImageData(read, manifest.rows, manifest.digest, teacher, model)


def _images(conditions: Sequence[np.ndarray]) -> Tensor:
    """uint8 [S, S, 3] each -> float [b, 3, S, S] in [0, 1]."""
    return torch.from_numpy(np.stack(conditions)).movedim(-1, 1).float() / 255.0
