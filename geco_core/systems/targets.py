"""A teacher chain as a maker of targets: the same preparation, and `make` beside `generate`.

Its configuration is the teacher's own (`sampler.steps=75`), with two keys beside: `teacher`, the
name of the teacher's system, and `targets.*`, what is rendered of it. The preset is the teacher's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geco_core.config.distill import TargetsConfig
from geco_core.config.load import fingerprint, load, to_dict
from geco_core.distill.target_address import deciding, noise_seeds, target_condition
from geco_core.distill.targets import MadeTarget, TargetMaker, check_teacher
from geco_core.errors import BadItem
from geco_core.systems import teacher_config
from geco_core.systems.images import image_of
from geco_core.systems.instantmesh import InstantMeshSystem, build_chain
from geco_core.types import Condition, Generated, Item

NAME = "targets"
OWN_KEYS = ("teacher", "targets")


@dataclass(frozen=True)
class TargetsSystemConfig:
    """What a targets system adds to its teacher's configuration."""

    teacher: str = "instantmesh"
    targets: TargetsConfig = field(default_factory=TargetsConfig)


class TargetsSystem:
    """Implements `System`; `make` gives targets.

    Args:
        teacher: loaded.
        settings: of the renders.
        config_digest: of teacher and settings, recorded in every row.
    """

    name = NAME

    def __init__(
        self, teacher: InstantMeshSystem, settings: TargetsConfig, config_digest: str
    ) -> None:
        self.preset, self.batch_size = teacher.preset, teacher.batch_size
        self._teacher, self._config_digest = teacher, config_digest
        self._maker = TargetMaker(teacher, settings)

    def prepare(self, item: Item) -> Condition:
        """As the teacher prepares it. Raises `BadItem`."""
        return self._teacher.prepare(item)

    def key(self, condition: Condition, seed: int) -> str:
        """Content address of a target. Raises `BadItem` for a prompt."""
        return self._maker.key(self._pixels(condition), seed)

    def make(
        self, conditions: Sequence[Condition], seeds: Sequence[int]
    ) -> Iterator[MadeTarget | BadItem]:
        """One target per condition, in order, each as soon as it is there."""
        self._maker.timing.clear()
        made = self._maker.make([self._pixels(c) for c in conditions], seeds)
        for condition, result in zip(conditions, made, strict=True):
            if isinstance(result, BadItem):
                result.item_id = condition.item_id
            yield result

    def noise_seeds(self, seed: int) -> list[tuple[str, int]]:
        """See `geco_core.distill.target_address.noise_seeds`."""
        return noise_seeds(seed, self._teacher.config.sampler)

    def generate(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        """The teacher's meshes alone; `actors.targets` makes rows with targets."""
        made = self.make(conditions, seeds)
        return [result.mesh if isinstance(result, MadeTarget) else result for result in made]

    def provenance(self) -> Mapping[str, Any]:
        """The teacher's digests and licences, with the digest of both configurations."""
        return {**self._teacher.provenance(), "config_digest": self._config_digest}

    def timing(self) -> Mapping[str, float]:
        """Seconds of the last `make`: multiview, reconstruct, extract (surface and renders)."""
        return dict(self._maker.timing)

    def _pixels(self, condition: Condition) -> np.ndarray:
        return target_condition(image_of(condition), self._teacher.config.multiview)


def build_targets(preset: str, overrides: Sequence[str]) -> TargetsSystem:
    """Build the system, its teacher's weights loaded.

    Raises:
        ConfigError: an unknown teacher, preset or key, or a teacher that can not give targets.
        Fatal: weights or device are not there.
    """
    own, words = _split(overrides)
    described = describe_targets(preset, overrides)
    teacher = build_chain(own.teacher, preset, words)
    return TargetsSystem(teacher, own.targets, fingerprint(described))


def describe_targets(preset: str, overrides: Sequence[str]) -> Mapping[str, Any]:
    """The teacher's resolved configuration, the teacher's name, and what decides the renders.

    Raises `ConfigError`.
    """
    own, words = _split(overrides)
    config = teacher_config(own.teacher, preset, words)
    check_teacher(config)
    return to_dict(config) | {"teacher": own.teacher, "targets": deciding(own.targets)}


def _split(overrides: Sequence[str]) -> tuple[TargetsSystemConfig, list[str]]:
    mine = [w for w in overrides if w.partition("=")[0].partition(".")[0] in OWN_KEYS]
    return load(TargetsSystemConfig, None, mine), [w for w in overrides if w not in mine]
