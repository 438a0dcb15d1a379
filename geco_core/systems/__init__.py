"""Systems by name.

Builders import their models only when called, so that listing systems costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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


def _build_instantmesh(preset: str, overrides: Sequence[str]) -> System:
    from geco_core.systems.instantmesh import build_instantmesh  # noqa: PLC0415 - lazy by design

    return build_instantmesh(preset, overrides)


def _describe_instantmesh(preset: str, overrides: Sequence[str]) -> Mapping[str, Any]:
    from geco_core.config.models import InstantMeshConfig  # noqa: PLC0415 - lazy by design

    return to_dict(load(InstantMeshConfig, preset_path("instantmesh", preset), overrides))


def _build_geco(preset: str, overrides: Sequence[str]) -> System:
    from geco_core.systems.instantmesh import build_chain  # noqa: PLC0415 - lazy by design

    return build_chain("geco", preset, overrides)


def _describe_geco(preset: str, overrides: Sequence[str]) -> Mapping[str, Any]:
    from geco_core.config.models import InstantMeshConfig  # noqa: PLC0415 - lazy by design

    return to_dict(load(InstantMeshConfig, preset_path("geco", preset), overrides))


SYSTEMS: dict[str, Builder] = {
    "geco": _build_geco,
    "instantmesh": _build_instantmesh,
    "noop": _build_noop,
}
_DESCRIBERS: dict[str, Describer] = {
    "geco": _describe_geco,
    "instantmesh": _describe_instantmesh,
    "noop": _describe_noop,
}


def build_system(name: str, preset: str, overrides: Sequence[str] = ()) -> System:
    """Load a system, weights included. Raises `ConfigError` for unknown names, presets and keys."""
    return SYSTEMS[_known(name)](preset, overrides)


def describe_system(name: str, preset: str, overrides: Sequence[str] = ()) -> Mapping[str, Any]:
    """The resolved configuration of a system as plain data, without loading anything.

    Raises `ConfigError`.
    """
    return _DESCRIBERS[_known(name)](preset, overrides)


def _known(name: str) -> str:
    if name in SYSTEMS:
        return name
    raise ConfigError(
        f"there is no system {name!r}", remedy=suggest(name, list(SYSTEMS), "systems")
    )
