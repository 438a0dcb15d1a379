"""Configuration: frozen dataclasses, filled from YAML and `key.sub=value` overrides.

No resolvers, no interpolation, no class paths: a configuration is data. An unknown key is an error that names the
nearest known one, because a misspelt key that is silently ignored costs a run.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from omegaconf import OmegaConf

from geco_core.errors import ConfigError

T = TypeVar("T")


def load(
    schema: type[T], source: str | Path | Mapping[str, Any] | None = None, overrides: Iterable[str] = ()
) -> T:
    """Fill `schema` (a frozen dataclass) from a YAML file or mapping, then from dotted overrides.

    Args:
        schema: the dataclass type; nested dataclasses, tuples, optionals, enums and scalars are understood.
        source: a YAML path or an already parsed mapping; None means defaults only.
        overrides: strings such as `sampler.steps=8`; values are parsed as YAML.

    Raises:
        ConfigError: unknown key (with the nearest known one), wrong type, unreadable file.
    """
    data: dict[str, Any] = {}
    if isinstance(source, Mapping):
        data = _plain(dict(source))
    elif source is not None:
        data = read_yaml(Path(source))
    for override in overrides:
        key, sep, value = override.partition("=")
        if not sep or not key:
            raise ConfigError(f"override {override!r} is not of the form key.sub=value", remedy="write e.g. seed=7")
        data = _merge(data, key, value)
    return build(schema, data)


def read_yaml(path: Path) -> dict[str, Any]:
    """Parse a YAML mapping. Raises `ConfigError` when it can not be read or is not a mapping."""
    try:
        parsed = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"can not read configuration {path}: {error}", remedy="check the path and the YAML") from error
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ConfigError(f"{path} is not a mapping", remedy="write `key: value` lines at the top level")
    return _plain(typing.cast("dict[str, Any]", parsed))


def preset_path(system: str, preset: str) -> Path:
    """Path of a shipped preset. Raises `ConfigError` naming the nearest existing one."""
    folder = Path(str(resources.files("geco_core.config") / "presets"))
    path = folder / f"{system}-{preset}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise ConfigError(
            f"there is no preset {system}-{preset}", remedy=_suggest(f"{system}-{preset}", known, "presets")
        )
    return path


def build(schema: type[T], data: Any, where: str = "") -> T:
    """Build one dataclass from parsed data, recursively. Raises `ConfigError`."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or 'configuration'} must be a mapping, got {type(data).__name__}")
    known = {f.name: f for f in dataclasses.fields(typing.cast("Any", schema)) if f.init}
    for key in data:
        if key not in known:
            raise ConfigError(
                f"unknown configuration key {_join(where, str(key))!r}", remedy=_suggest(str(key), list(known), "keys")
            )
    hints = get_type_hints(schema)
    values = {k: _convert(hints[k], v, _join(where, k)) for k, v in data.items()}
    missing = [
        n
        for n, f in known.items()
        if n not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"configuration key {_join(where, missing[0])!r} is required", remedy="set it")
    try:
        return schema(**values)
    except ValueError as error:
        raise ConfigError(f"{where or schema.__name__}: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain data (lists, not tuples), ready for YAML or JSON."""
    return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config), default=_encode)))


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


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        errors = []
        for option in options:
            if option is type(None):
                continue
            try:
                return _convert(option, value, where)
            except ConfigError as error:
                errors.append(error)
        raise errors[0]
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, typing.cast("type", hint)) else build(typing.cast("type", hint), value, where)
    if origin is typing.Literal:
        if value in get_args(hint):
            return value
        known = [str(a) for a in get_args(hint)]
        raise ConfigError(f"{where} can not be {value!r}", remedy=_suggest(str(value), known, "values"))
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        args = get_args(hint)
        kinds = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise ConfigError(f"{where} must have {len(kinds)} entries, got {len(value)}")
        return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {value!r}")
        return dict(value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError as error:
            raise ConfigError(
                f"{where} can not be {value!r}", remedy=_suggest(str(value), [str(m.value) for m in hint], "values")
            ) from error
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        try:  # YAML reads 1e-4 as a string
            return float(value)
        except ValueError:
            pass
    if hint is str and isinstance(value, str):
        return value
    raise ConfigError(f"{where} must be {getattr(hint, '__name__', hint)}, got {value!r}")


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


def _suggest(name: str, known: list[str], what: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known {what}: {', '.join(sorted(known))}"


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
