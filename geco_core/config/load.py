"""Configuration: frozen dataclasses, filled from YAML and `key.sub=value` overrides.

No resolvers, no interpolation, no class paths: a configuration is data. An unknown key is an error
that names the nearest known one, because a misspelt key that is silently ignored costs a run.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from omegaconf import OmegaConf

from geco_core.config.convert import convert, suggest
from geco_core.errors import ConfigError

T = TypeVar("T")


def load(
    schema: type[T],
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
) -> T:
    """Fill `schema` (a frozen dataclass) from a YAML file or mapping, then from dotted overrides.

    Args:
        schema: the dataclass type; nested dataclasses, tuples, optionals, enums and scalars are
            understood.
        source: a YAML path or an already parsed mapping; None means defaults only.
        overrides: strings such as `sampler.steps=8`; values are parsed as YAML.

    Raises:
        ConfigError: unknown key (with the nearest known one), wrong type, unreadable file.
    """
    data: dict[str, Any] = {}
    if isinstance(source, Mapping):
        data = _plain(dict(source))
    elif source is not None:
        data = read_layers(Path(source))
    for override in overrides:
        key, sep, value = override.partition("=")
        if not sep or not key:
            raise ConfigError(
                f"override {override!r} is not of the form key.sub=value",
                remedy="write e.g. seed=7",
            )
        data = _merge(data, key, value)
    return build(schema, data)


def read_yaml(path: Path) -> dict[str, Any]:
    """Parse a YAML mapping. Raises `ConfigError` when it can not be read or is not a mapping."""
    try:
        parsed = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"can not read configuration {path}: {error}", remedy="check the path and the YAML"
        ) from error
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ConfigError(
            f"{path} is not a mapping", remedy="write `key: value` lines at the top level"
        )
    return _plain(typing.cast("dict[str, Any]", parsed))


def read_layers(path: Path) -> dict[str, Any]:
    """A YAML mapping laid over the one its `base: NAME` names, a file beside it.

    Raises:
        ConfigError: unreadable, or a base that leads back to itself or out of the folder.
    """
    layers: list[dict[str, Any]] = []
    seen: list[Path] = []
    while True:
        if path in seen:
            raise ConfigError(
                f"{seen[0]} is its own base", remedy="let `base:` name another file of the folder"
            )
        seen.append(path)
        layer = read_yaml(path)
        base = layer.pop("base", None)
        layers.append(layer)
        if base is None:
            break
        if not isinstance(base, str) or Path(base).name != base:
            raise ConfigError(
                f"{path}: base {base!r} is not the name of a file beside it",
                remedy="write e.g. `base: instantmesh-micro`",
            )
        path = path.with_name(f"{base}.yaml")
    return functools.reduce(_deep_update, reversed(layers))


def preset_path(system: str, preset: str) -> Path:
    """Path of a shipped preset. Raises `ConfigError` naming the nearest existing one."""
    folder = Path(str(resources.files("geco_core.config") / "presets"))
    path = folder / f"{system}-{preset}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise ConfigError(
            f"there is no preset {system}-{preset}",
            remedy=suggest(f"{system}-{preset}", known, "presets"),
        )
    return path


def build(schema: type[T], data: Any, where: str = "") -> T:
    """Build one dataclass from parsed data, recursively. Raises `ConfigError`."""
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{where or 'configuration'} must be a mapping, got {type(data).__name__}"
        )
    known = {f.name: f for f in dataclasses.fields(typing.cast("Any", schema)) if f.init}
    for key in data:
        if key not in known:
            raise ConfigError(
                f"unknown configuration key {_join(where, str(key))!r}",
                remedy=suggest(str(key), list(known), "keys"),
            )
    hints = get_type_hints(schema)
    values = {
        k: convert(hints[k], _over_default(known[k], v), _join(where, k), build)
        for k, v in data.items()
    }
    missing = [
        n
        for n, f in known.items()
        if n not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(
            f"configuration key {_join(where, missing[0])!r} is required", remedy="set it"
        )
    try:
        return schema(**values)
    except ValueError as error:
        raise ConfigError(f"{where or schema.__name__}: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain data (lists, not tuples), ready for YAML or JSON.

    What is plain already stays as it is.
    """
    plain = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config  # type: ignore[arg-type]
    return typing.cast("dict[str, Any]", json.loads(json.dumps(plain, default=_encode)))


def fingerprint(config: Any) -> str:
    """sha256 of the configuration's canonical JSON, hex."""
    canonical = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def difference(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """Human lines `key: old -> new` for every leaf that differs."""
    lines: list[str] = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += difference(a, b, _join(where, key))
        elif a != b:
            lines.append(f"{_join(where, key)}: {a!r} -> {b!r}")
    return lines


def _over_default(field: dataclasses.Field[Any], value: Any) -> Any:
    """A partial mapping for a nested dataclass, laid over the field's own default."""
    if not isinstance(value, Mapping):
        return value
    factory = field.default_factory
    default = factory() if factory is not dataclasses.MISSING else field.default
    if not dataclasses.is_dataclass(default) or isinstance(default, type):
        return value
    return _deep_update(to_dict(default), value)


def filled(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data `changes` laid over plain data `base`, key by key at every level."""
    return _deep_update(dict(base), changes)


def _deep_update(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, Mapping)
        merged[key] = _deep_update(typing.cast("dict[str, Any]", below), value) if both else value
    return merged


def _merge(data: dict[str, Any], key: str, value: str) -> dict[str, Any]:
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {key}={value} is not valid YAML: {error}") from error
    node = data
    *parents, leaf = key.split(".")
    for parent in parents:
        below = node.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(f"override {key}: {parent!r} holds a value, not a mapping")
        node = below
    node[leaf] = parsed
    return data


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    return {str(k): _plain(v) if isinstance(v, Mapping) else v for k, v in data.items()}


def _encode(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"configuration values must be plain data, got {type(value).__name__}")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
