"""One bad input: how to make it, and how it has to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from geco_core.errors import Reason


@dataclass(frozen=True)
class Case:
    """A named input.

    Attributes:
        name: unique in its list; also the item id.
        make: the bytes.
        reason: the row has to fail with; None when it has to be made.
        text: a fragment of the row's message or, when it is made, of its notes.
    """

    name: str
    make: Callable[[], bytes]
    reason: Reason | None
    text: str = ""


@dataclass(frozen=True)
class Place:
    """Where source cases find things: the manifest's folder, a folder beside it, and a server."""

    inside: Path
    outside: Path
    url: Callable[[str], str]


@dataclass(frozen=True)
class Source:
    """A named source text; `reason` and `text` as in `Case`."""

    name: str
    make: Callable[[Place], str]
    reason: Reason | None
    text: str = ""


@dataclass(frozen=True)
class Manifest:
    """A manifest, and how a run over it ends.

    Attributes:
        name: unique in the corpus.
        make: writes it below a folder and returns the `--manifest` argument.
        rows: the reason of every row, None for one that is made; or None: the manifest is refused.
        text: a fragment of what stderr says, or of a failed row's message.
        settings: `key=value` words.
        codes: exit codes of `plan` and `generate` when it is refused.
    """

    name: str
    make: Callable[[Path], str]
    rows: tuple[Reason | None, ...] | None
    text: str = ""
    settings: tuple[str, ...] = ()
    codes: tuple[int, int] = (2, 2)
