"""What systems that make a mesh of one image share: preparation, batches, precision, timing.

On a CPU every item runs through the networks alone, because batched CPU kernels differ in the last
bit with the batch size and the same item must give the same bytes in any batch.

Legend: B items.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from geco_core.config.load import fingerprint
from geco_core.config.placement import PlacementConfig
from geco_core.errors import BadItem, ForgeError, Reason
from geco_core.imaging.decode import DecodeLimits, decode_image
from geco_core.imaging.matting import foreground_rgba
from geco_core.systems.device import Networks, place, precision, tf32
from geco_core.types import Condition, Generated, Item

C = TypeVar("C", bound=PlacementConfig)


class ImageSystem(ABC, Generic[C]):
    """`System` of networks that read one image; subclasses say what they make of it.

    Args:
        config: of the system.
        networks: loaded; put on the device here.
        weights_digest: recorded in every row.
        device: where the networks go.
        licences: of the weights.
    """

    def __init__(
        self,
        config: C,
        networks: Networks,
        weights_digest: str,
        device: torch.device,
        licences: Sequence[str],
    ) -> None:
        self.name = config.system
        self.preset = config.preset
        self.batch_size = config.batch_size
        self.config = config
        place(config, device, networks)
        self._weights_digest = weights_digest
        self._licences = list(licences)
        self._device = device
        self._timing: dict[str, float] = {}

    def prepare(self, item: Item) -> Condition:
        """Decode, cut out and frame the item's image. Raises `BadItem`."""
        if item.image is None:
            raise BadItem(
                "the row has no image",
                reason=Reason.MISSING_INPUT,
                remedy="give the manifest an image column",
                item_id=item.item_id,
                stage="prepare",
            )
        if not isinstance(item.image, bytes):
            raise TypeError("prepare needs image bytes; the engine's fetch stage reads URIs")
        decoded = decode_image(item.image, item_id=item.item_id, limits=DecodeLimits())
        rgba, notes = foreground_rgba(decoded, item_id=item.item_id)
        return Condition(
            item_id=item.item_id,
            rgba=self._framed(rgba),
            source_sha256=decoded.sha256,
            notes=(*decoded.notes, *notes),
        )

    def generate(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        """Conditions in, meshes out, in order; a bad member's slot holds its `BadItem`."""
        self._timing = {}
        if not conditions:
            return []
        try:
            results = self._generated(conditions, seeds)
        except BadItem as error:
            if len(conditions) > 1:  # which member it was, each of them shows alone
                each = zip(conditions, seeds, strict=True)
                return [result for c, s in each for result in self.generate([c], [s])]
            results: list[Generated] = [error]
        for condition, result in zip(conditions, results, strict=True):
            if isinstance(result, ForgeError):
                result.item_id = condition.item_id
        return results

    def provenance(self) -> Mapping[str, Any]:
        """Digests and licences recorded in every row and file."""
        return {
            "weights_digest": self._weights_digest,
            "config_digest": fingerprint(self.config),
            "licences": list(self._licences),
        }

    def timing(self) -> Mapping[str, float]:
        """Seconds per stage of the last `generate` call."""
        return dict(self._timing)

    @abstractmethod
    def _framed(self, rgba: np.ndarray) -> np.ndarray:
        """A cut-out uint8 [H, W, 4] framed to the system's convention. Raises `BadItem`."""

    @abstractmethod
    def _generated(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        """One result per condition; there is one at least.

        Raises:
            BadItem: a member can not be generated, and the others were not.
        """

    @abstractmethod
    def _meshes(self, planes_B3CHW: Tensor) -> list[Generated]:
        """One result per row of planes, float32."""

    def _reconstructed(self, planes_of: Callable[[slice], Tensor], count: int) -> list[Generated]:
        """Planes of every item in the configured precision, then meshes of them in float32."""
        with self._timed("reconstruct"), self._precision():
            planes_B3CHW = torch.cat(self._per_item(planes_of, count)).float()
        with self._timed("extract"), tf32(allowed=False):
            return self._meshes(planes_B3CHW)

    def _per_item(self, call: Callable[[slice], Tensor], count: int) -> list[Tensor]:
        if self._device.type == "cpu":
            return [call(slice(i, i + 1)) for i in range(count)]
        return [call(slice(0, count))]

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """The configured precision, for the networks alone: extraction stays in float32."""
        dtype = precision(self.config.dtype, self._device)
        autocast = torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32)
        with autocast, tf32(allowed=self.config.tf32):
            yield

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Count the block's seconds, until the device is done with it."""
        started = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._timing[stage] = time.perf_counter() - started


def image_of(condition: Condition) -> np.ndarray:
    """The framed image of a condition, uint8 [H, W, 4]. Raises `BadItem` for a prompt."""
    if condition.rgba is None:
        raise BadItem(
            "this system reads images, not prompts",
            reason=Reason.UNSUPPORTED_INPUT,
            remedy="give the manifest an image column",
            item_id=condition.item_id,
            stage="multiview",
        )
    return condition.rgba
