"""A system without a model: a coloured box whose size depends on the seed.

It measures and tests everything around the models: it can sleep, and it can fail on chosen items in
every way a model can.
"""

from __future__ import annotations

import ctypes
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from geco_core.config.load import fingerprint, load
from geco_core.errors import BadItem, ConfigError, Fatal, Reason
from geco_core.types import Condition, Generated, Item, Mesh

Fault = Literal[
    "prepare", "bad_item", "generate", "non_finite", "empty", "segfault", "hang", "fatal"
]
HANG_S = 3600

# Corners of the unit box by bits (x, y, z), and its twelve outward triangles.
_CORNERS_83 = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], dtype=np.float32) - 0.5
_FACES_12x3 = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ],
    dtype=np.int32,
)  # fmt: skip


@dataclass(frozen=True)
class NoopConfig:
    """Durations in seconds per item, and `faults`: item id -> what goes wrong with it."""

    system: str = "noop"
    preset: str = "micro"
    batch_size: int = 4
    prepare_s: float = 0.0
    generate_s: float = 0.0
    faults: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item_id, fault in self.faults.items():
            if fault not in get_args(Fault):
                raise ValueError(
                    f"fault {fault!r} of item {item_id!r} is none of {', '.join(get_args(Fault))}"
                )


class NoopSystem:
    """Implements `System` without images, weights or torch."""

    name = "noop"

    def __init__(self, config: NoopConfig) -> None:
        self.preset = config.preset
        self.batch_size = config.batch_size
        self._config = config
        self._seconds = 0.0

    def prepare(self, item: Item) -> Condition:
        """Digest the source. Raises `BadItem` for items with the `bad_item` fault."""
        fault = self._config.faults.get(item.item_id)
        if self._config.prepare_s:
            time.sleep(self._config.prepare_s)
        if fault == "prepare":
            raise ValueError("noop fault in prepare")
        if fault == "bad_item":
            raise BadItem(
                "noop fault", reason=Reason.CORRUPT_IMAGE, item_id=item.item_id, stage="prepare"
            )
        source = item.image if item.image is not None else item.prompt or ""
        data = source if isinstance(source, bytes) else source.encode()
        return Condition(
            item.item_id, prompt=item.prompt, source_sha256=hashlib.sha256(data).hexdigest()
        )

    def generate(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        """One box per condition; sides within 0.5 and 1.5."""
        begun = time.perf_counter()
        if self._config.generate_s:
            time.sleep(self._config.generate_s * len(conditions))
        meshes = [self._box(c.item_id, seed) for c, seed in zip(conditions, seeds, strict=True)]
        self._seconds = time.perf_counter() - begun
        return meshes

    def provenance(self) -> Mapping[str, Any]:
        """No weights; the configuration's digest."""
        return {"weights_digest": "", "config_digest": fingerprint(self._config), "licences": []}

    def timing(self) -> Mapping[str, float]:
        """The box is made in `extract`."""
        return {"extract": self._seconds}

    def _box(self, item_id: str, seed: int) -> Generated:
        fault = self._config.faults.get(item_id)
        if fault in ("generate", "segfault", "hang", "fatal"):
            _break(fault)
        rng = np.random.default_rng(seed)
        vertices_83 = (_CORNERS_83 * rng.uniform(0.5, 1.5, 3)).astype(np.float32)
        colors_83 = rng.integers(0, 256, (8, 3), dtype=np.uint8)
        if fault == "non_finite":
            vertices_83[3, 1] = np.nan
        if fault == "empty":
            return Mesh(vertices_83[:0], _FACES_12x3[:0], colors_83[:0])
        return Mesh(vertices_83, _FACES_12x3.copy(), colors_83)


def noop_config(preset: str, overrides: Sequence[str]) -> NoopConfig:
    """The configuration; there is one preset. Raises `ConfigError`."""
    if preset != "micro":
        raise ConfigError(f"there is no preset noop-{preset}", remedy="use preset=micro")
    return load(NoopConfig, None, overrides)


def build_noop(preset: str, overrides: Sequence[str]) -> NoopSystem:
    """Build the system. Raises `ConfigError`."""
    return NoopSystem(noop_config(preset, overrides))


def _break(fault: str) -> None:
    if fault == "generate":
        raise ValueError("noop fault in generate")
    if fault == "fatal":
        raise Fatal("noop fault that stops the run", remedy="remove the fault")
    if fault == "hang":
        # PyDLL keeps the GIL: only a watchdog outside of it can end this.
        ctypes.PyDLL(None).sleep(HANG_S)
    ctypes.string_at(0)  # reads address zero
