"""Systems by name.

Builders import their models only when called, so that listing systems costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from geco_core.checkpoints.families import ChainConfig, ChainWeights, chain_weights
from geco_core.config.convert import suggest
from geco_core.config.crm_system import CrmConfig
from geco_core.config.load import load, preset_path, to_dict
from geco_core.config.models import InstantMeshConfig
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


def _build_crm(preset: str, overrides: Sequence[str]) -> System:
    from geco_core.systems.crm import build_crm  # noqa: PLC0415 - lazy by design

    return build_crm(preset, overrides)


def _describe_chain(name: str, preset: str, overrides: Sequence[str]) -> Mapping[str, Any]:
    return to_dict(load(_SCHEMAS[name], preset_path(name, preset), overrides))


def _build_targets(preset: str, overrides: Sequence[str]) -> System:
    from geco_core.systems.targets import build_targets  # noqa: PLC0415 - lazy by design

    return build_targets(preset, overrides)


def _describe_targets(preset: str, overrides: Sequence[str]) -> Mapping[str, Any]:
    from geco_core.systems.targets import describe_targets  # noqa: PLC0415 - lazy by design

    return describe_targets(preset, overrides)


SYSTEMS: dict[str, Builder] = {
    "crm": _build_crm,
    "geco": partial(_build_chain, "geco"),
    "instantmesh": partial(_build_chain, "instantmesh"),
    "noop": _build_noop,
    "targets": _build_targets,
}
_DESCRIBERS: dict[str, Describer] = {
    "crm": partial(_describe_chain, "crm"),
    "geco": partial(_describe_chain, "geco"),
    "instantmesh": partial(_describe_chain, "instantmesh"),
    "noop": _describe_noop,
    "targets": _describe_targets,
}
# Configurations of the systems that load weights; what a system describes may hold more.
_SCHEMAS: dict[str, type[ChainConfig]] = {
    "crm": CrmConfig,
    "geco": InstantMeshConfig,
    "instantmesh": InstantMeshConfig,
    "targets": InstantMeshConfig,
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
    return chain_weights(chain_config(name, described))


def chain_config(
    name: str, described: Mapping[str, Any], overrides: Sequence[str] = ()
) -> ChainConfig:
    """The configuration of a system that loads weights, from what `describe_system` says of it.

    Args:
        name: of the system.
        described: plain data; keys that are not of the chain are left out.
        overrides: laid over it, `key.sub=value`.

    Raises:
        ConfigError: the system loads no weights, or an override is wrong.
    """
    schema = _SCHEMAS.get(name)
    if schema is None:
        raise ConfigError(
            f"the system {name!r} loads no weights",
            remedy=f"take one of {', '.join(_SCHEMAS)}",
        )
    known = {entry.name for entry in fields(schema)}
    return load(schema, {key: described[key] for key in known & {*described}}, overrides)


def teacher_config(name: str, preset: str, overrides: Sequence[str] = ()) -> InstantMeshConfig:
    """The configuration of a chain that can be distilled. Raises `ConfigError` for others."""
    if _SCHEMAS.get(_known(name)) is not InstantMeshConfig:
        raise ConfigError(
            f"system {name!r} is no chain that can be distilled",
            remedy="set teacher.system=instantmesh",
        )
    return load(InstantMeshConfig, preset_path(name, preset), overrides)


def _known(name: str) -> str:
    if name in SYSTEMS:
        return name
    raise ConfigError(
        f"there is no system {name!r}", remedy=suggest(name, list(SYSTEMS), "systems")
    )
