"""The keys of a run by what they are: one listing per folder, nothing is read.

Shared by `geco verify`, which reports what does not belong, and `geco repair`, which puts it right.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from infra.commit import parse_name
from infra.storage import LocalStorage, Storage

FOLDERS = ("assets", "done", "attempts")
PARTIAL = "partial"


@dataclass
class RunKeys:
    """What lies in a run folder, by shard.

    Attributes:
        parts, done, attempts: shard -> generations.
        partials: (shard, generation) -> keys.
        foreign: keys in our folders that are not of our form.
    """

    parts: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    done: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    attempts: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    partials: dict[tuple[int, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    foreign: list[str] = field(default_factory=list)

    def counting(self, shard: int) -> int | None:
        """The generation that readers use; None for a shard without a done record."""
        return max(self.done[shard], default=None) if shard in self.done else None

    def shards(self) -> list[int]:
        """Every shard that has a part, a done record or a crash record, in order."""
        return sorted({*self.parts, *self.done, *self.attempts, *(s for s, _ in self.partials)})


def survey_keys(storage: Storage) -> RunKeys:
    """List a run. Raises `Retryable` or `Fatal` when the store fails."""
    keys = RunKeys()
    # Done records first: a shard that is committed in between shows its part, and no false alarm.
    for folder, found in (("done", keys.done), ("assets", keys.parts), ("attempts", keys.attempts)):
        _sort_in(storage.list(folder), found, keys.foreign)
    for key in storage.list(PARTIAL):
        owner = _owner(key)
        if owner is None:
            keys.foreign.append(key)
        else:
            keys.partials[owner].append(key)
    return keys


def unfinished_writes(storage: Storage, older_than: float = math.inf) -> list[str]:
    """Names of the unfinished writes of a local store, those before a time in seconds since the
    epoch. Other stores show theirs only when they sweep.
    """
    if not isinstance(storage, LocalStorage):
        return []
    found = []
    for path in storage.temporaries():
        with contextlib.suppress(FileNotFoundError):  # finished since the listing
            if path.stat().st_mtime < older_than:
                found.append(str(path.relative_to(storage.root)))
    return sorted(found)


def _sort_in(listed: Iterable[str], found: dict[int, set[int]], foreign: list[str]) -> None:
    for key in listed:
        name = parse_name(key)
        if name is None:
            if not key.endswith("/"):  # some S3 clients leave directory markers
                foreign.append(key)
        else:
            found[name[0]].add(name[1])


def _owner(key: str) -> tuple[int, int] | None:
    """`partial/000003-g1/000000128.parquet` -> (3, 1)."""
    pieces = key.split("/")
    shard, separator, generation = pieces[1].partition("-g") if len(pieces) == 3 else ("", "", "")
    if not (separator and shard.isdecimal() and generation.isdecimal()):
        return None
    return int(shard), int(generation)
