"""Systems by name.

Builders import their models only when called, so that listing systems costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from geco_core.checkpoints.families import ChainWeights, chain_weights
from geco_core.config.convert import suggest
from geco_core.config.load import load, preset_path, to_dict
from geco_core.errors import ConfigError
from geco_core.types import System

Builder = Callable[[str, Sequence[str]], System]
Describer = Callable[[str, Sequence[str]], Mapping[str, Any]]


def _build_noop(preset: str, overrides: Sequence[str]) -> System:
    from geco_core.systems.noop import build_noop  # noqa: PLC0415 - lazy by design

    return build_noop(preset, overrides)


def _describe_noop(preset: str, overrides: Sequence[str]) -> Mapping[str, Any]:
    from geco_core.systems.noop import noop_config  # noqa: PLC0415 - lazy by design

    return to_dict(noop_config(preset, overrides))


def _build_chain(name: str, preset: str, overrides: Sequence[str]) -> System:
    from geco_core.systems.instantmesh import build_chain  # noqa: PLC0415 - lazy by design

    return build_chain(name, preset, overrides)


def _describe_chain(name: str, preset: str, overrides: Sequence[str]) -> Mapping[str, Any]:
    from geco_core.config.models import InstantMeshConfig  # noqa: PLC0415 - lazy by design

    return to_dict(load(InstantMeshConfig, preset_path(name, preset), overrides))


def _build_targets(preset: str, overrides: Sequence[str]) -> System:
    from geco_core.systems.targets import build_targets  # noqa: PLC0415 - lazy by design

    return build_targets(preset, overrides)


def _describe_targets(preset: str, overrides: Sequence[str]) -> Mapping[str, Any]:
    from geco_core.systems.targets import describe_targets  # noqa: PLC0415 - lazy by design

    return describe_targets(preset, overrides)


SYSTEMS: dict[str, Builder] = {
    "geco": partial(_build_chain, "geco"),
    "instantmesh": partial(_build_chain, "instantmesh"),
    "noop": _build_noop,
    "targets": _build_targets,
}
_DESCRIBERS: dict[str, Describer] = {
    "geco": partial(_describe_chain, "geco"),
    "instantmesh": partial(_describe_chain, "instantmesh"),
    "noop": _describe_noop,
    "targets": _describe_targets,
}


def build_system(name: str, preset: str, overrides: Sequence[str] = ()) -> System:
    """Load a system, weights included. Raises `ConfigError` for unknown names, presets and keys."""
    return SYSTEMS[_known(name)](preset, overrides)


def describe_system(name: str, preset: str, overrides: Sequence[str] = ()) -> Mapping[str, Any]:
    """The resolved configuration of a system as plain data, without loading anything.

    Raises `ConfigError`.
    """
    return _DESCRIBERS[_known(name)](preset, overrides)


def describe_weights(name: str, preset: str, overrides: Sequence[str] = ()) -> ChainWeights:
    """The licences and files of a system's weights, without loading them. Raises `ConfigError`."""
    described = describe_system(name, preset, overrides)
    if "weights" not in described:
        return ChainWeights((), {})
    from geco_core.config.models import InstantMeshConfig  # noqa: PLC0415 - lazy by design

    known = {entry.name for entry in fields(InstantMeshConfig)}
    return chain_weights(load(InstantMeshConfig, {k: described[k] for k in known & {*described}}))


def _known(name: str) -> str:
    if name in SYSTEMS:
        return name
    raise ConfigError(
        f"there is no system {name!r}", remedy=suggest(name, list(SYSTEMS), "systems")
    )
