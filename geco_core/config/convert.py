"""Turn parsed YAML values into the types a configuration dataclass declares.

Legend of errors: every message names the dotted key, every remedy the nearest allowed value.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Union, get_args, get_origin

from geco_core.errors import ConfigError

BuildFn = Callable[[type[Any], Any, str], Any]


def convert(hint: Any, value: Any, where: str, build: BuildFn) -> Any:
    """Convert `value` to the annotated type `hint`.

    Args:
        hint: a resolved annotation: scalar, enum, literal, tuple, dict, optional, dataclass.
        value: parsed YAML.
        where: dotted key, for messages.
        build: builds nested dataclasses.

    Raises:
        ConfigError: the value does not fit.
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _union(get_args(hint), value, where, build)
    if dataclasses.is_dataclass(hint):
        kind = typing.cast("type", hint)
        return value if isinstance(value, kind) else build(kind, value, where)
    if origin is typing.Literal:
        return _literal(get_args(hint), value, where)
    if origin is tuple:
        return _tuple(get_args(hint), value, where, build)
    if origin is dict or hint is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {value!r}")
        return dict(value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint, value, where)
    return _scalar(hint, value, where)


def _union(options: tuple[Any, ...], value: Any, where: str, build: BuildFn) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            return convert(option, value, where, build)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _literal(allowed: tuple[Any, ...], value: Any, where: str) -> Any:
    if value in allowed:
        return value
    remedy = suggest(str(value), [str(a) for a in allowed], "values")
    raise ConfigError(f"{where} can not be {value!r}", remedy=remedy)


def _enum(kind: type[Enum], value: Any, where: str) -> Enum:
    try:
        return kind(value)
    except ValueError as error:
        remedy = suggest(str(value), [str(m.value) for m in kind], "values")
        raise ConfigError(f"{where} can not be {value!r}", remedy=remedy) from error


def _tuple(args: tuple[Any, ...], value: Any, where: str, build: BuildFn) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} must be a list, got {value!r}")
    kinds = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
    if len(kinds) != len(value):
        raise ConfigError(f"{where} must have {len(kinds)} entries, got {len(value)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(convert(kind, entry, f"{where}[{i}]", build) for i, (kind, entry) in pairs)


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


def suggest(name: str, known: list[str], what: str) -> str:
    """`did you mean ...?` for a near name, else the list of known ones."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known {what}: {', '.join(sorted(known))}"
