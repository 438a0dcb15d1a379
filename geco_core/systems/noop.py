"""A system without a model: a coloured box whose size depends on the seed.

It measures and tests everything around the models: it can sleep, it can fail on chosen items in
every way a model can (`geco_core.systems.noop_faults`), and it can skip the mesh altogether.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from geco_core.config.load import fingerprint, load
from geco_core.errors import ConfigError, Reason
from geco_core.systems.noop_asset import box_asset
from geco_core.systems.noop_faults import (
    IN_MESH,
    IN_PREPARE,
    REASONS,
    break_generation,
    break_preparation,
    broken_mesh,
    check_faults,
    fault_of,
)
from geco_core.types import Condition, Generated, Item, Mesh

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
    """What the boxes cost and which of them go wrong.

    Attributes:
        prepare_s: seconds each item takes to prepare.
        generate_s: seconds each item takes to generate.
        faults: item id -> what goes wrong with it.
        poison: fault -> items per 1000 that have it, chosen by a hash of the id; an item has at
            most one.
        output: `mesh`, or `asset`: one finished box for every item, to measure the engine alone.
    """

    system: str = "noop"
    preset: str = "micro"
    batch_size: int = 4
    prepare_s: float = 0.0
    generate_s: float = 0.0
    faults: dict[str, Any] = field(default_factory=dict)
    poison: dict[str, Any] = field(default_factory=dict)
    output: Literal["mesh", "asset"] = "mesh"

    def __post_init__(self) -> None:
        check_faults(self.faults, self.poison)


class NoopSystem:
    """Implements `System` without images, weights or torch."""

    name = "noop"

    def __init__(self, config: NoopConfig) -> None:
        self.preset = config.preset
        self.batch_size = config.batch_size
        self._config = config
        self._fault = partial(fault_of, config.faults, config.poison)
        self._asset = box_asset(_CORNERS_83, _FACES_12x3) if config.output == "asset" else None
        self._seconds = 0.0

    def prepare(self, item: Item) -> Condition:
        """Digest the source. Raises `BadItem` for items with the `bad_item` fault."""
        fault = self._fault(item.item_id)
        if self._config.prepare_s:
            time.sleep(self._config.prepare_s)
        if fault in IN_PREPARE:
            break_preparation(fault, item.item_id)
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
        made = [self._made(c.item_id, seed) for c, seed in zip(conditions, seeds, strict=True)]
        self._seconds = time.perf_counter() - begun
        return made

    def provenance(self) -> Mapping[str, Any]:
        """No weights; the configuration's digest."""
        return {"weights_digest": "", "config_digest": fingerprint(self._config), "licences": []}

    def timing(self) -> Mapping[str, float]:
        """The box is made in `extract`."""
        return {"extract": self._seconds}

    def _made(self, item_id: str, seed: int) -> Generated:
        fault = self._fault(item_id)
        if fault is None:
            return self._asset or box(seed)
        break_generation(fault)
        return broken_mesh(fault, box(seed)) if fault in IN_MESH else self._asset or box(seed)


def box(seed: int) -> Mesh:
    """The coloured box of a seed."""
    rng = np.random.default_rng(seed)
    vertices_83 = (_CORNERS_83 * rng.uniform(0.5, 1.5, 3)).astype(np.float32)
    return Mesh(vertices_83, _FACES_12x3.copy(), rng.integers(0, 256, (8, 3), dtype=np.uint8))


def expected_reason(config: NoopConfig, item_id: str) -> Reason | None:
    """The reason an item must end with; None when it must be done (or stop the run: `fatal`)."""
    fault = fault_of(config.faults, config.poison, item_id)
    return REASONS.get(fault) if fault else None


def noop_config(preset: str, overrides: Sequence[str]) -> NoopConfig:
    """The configuration; there is one preset. Raises `ConfigError`."""
    if preset != "micro":
        raise ConfigError(f"there is no preset noop-{preset}", remedy="use preset=micro")
    return load(NoopConfig, None, overrides)


def build_noop(preset: str, overrides: Sequence[str]) -> NoopSystem:
    """Build the system. Raises `ConfigError`."""
    return NoopSystem(noop_config(preset, overrides))
