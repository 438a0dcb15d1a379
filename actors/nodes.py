"""Which nodes are to blame for deaths of their processes: pure bookkeeping without Ray or a clock.

A shard that died on a node and then committed elsewhere, none of its rows blamed, is a strike
against the node. Three strikes retire it. What must not count, or a manifest full of poison would
retire healthy nodes:
    - a process holds two shards: its death is a strike only when both come out clean;
    - a process that eats the memory of its node may cost its neighbours their lives first: no
      strike within `NEIGHBOUR_S` of a death that is explained by a blamed row;
    - deaths for lack of memory and with the whole node say nothing about the node;
    - rare crashes add up over days: commits on the node forgive, one strike in `FORGIVING` of them;
    - trouble that all nodes have alike is not the node's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

STRIKES = 3
FORGIVING = 10
NEIGHBOUR_S = 10.0


@dataclass
class _Death:
    """One death of a process; `open` holds its shards that are not committed yet."""

    at: float
    shards: frozenset[int]
    open: set[int]
    explained: bool = False


@dataclass
class _Record:
    """What is known of one node."""

    deaths: list[_Death] = field(default_factory=list)
    struck: list[frozenset[int]] = field(default_factory=list)
    commits: int = 0
    failed_starts: int = 0


class Nodes:
    """Deaths, strikes and retirements of nodes.

    Attributes:
        retired: nodes that get no work any more.
    """

    def __init__(self) -> None:
        self.retired: set[str] = set()
        self._records: dict[str, _Record] = {}

    def died(self, node: str, shards: Collection[int], now: float) -> None:
        """A process on `node` died with these shards; `now` in seconds of any clock."""
        death = _Death(now, frozenset(shards), set(shards), explained=not shards)
        self._record(node).deaths.append(death)

    def blamed(self, shard: int) -> None:
        """A row of the shard was found guilty: it explains every death the shard had a part in."""
        for record in self._records.values():
            for death in record.deaths:
                death.explained = death.explained or shard in death.shards

    def committed(self, shard: int, node: str) -> None:
        """The shard was made on `node` without a row to blame."""
        record = self._record(node)
        record.commits += 1
        if record.struck and record.commits >= FORGIVING:
            record.commits = 0
            del record.struck[0]
        for other, theirs in self._records.items():
            for death in theirs.deaths:
                if shard in death.open:
                    death.open.discard(shard)
                    death.explained = death.explained or other == node  # it can be made here
            self._judge(theirs)

    def start_failed(self, node: str) -> int:
        """A replica failed to load on `node`; returns how many did so in a row there."""
        record = self._record(node)
        record.failed_starts += 1
        return record.failed_starts

    def started(self, node: str) -> None:
        """A replica loaded on `node`."""
        self._record(node).failed_starts = 0

    def strikes(self, node: str) -> int:
        """Strikes against a node."""
        return len(self._record(node).struck)

    def retire(self, alive: Collection[str]) -> list[str]:
        """Retire the nodes of `alive` that have deserved it, but never the last.

        Returns:
            The nodes retired now.
        """
        fresh: list[str] = []
        for node in sorted(alive, key=self.strikes, reverse=True):
            others = [other for other in alive if other != node and other not in self.retired]
            worst = max((self.strikes(other) for other in others), default=0)
            deserved = self.strikes(node) >= STRIKES and self.strikes(node) > 2 * worst
            if deserved and others and node not in self.retired:
                self.retired.add(node)
                fresh.append(node)
        return fresh

    def pardon(self) -> None:
        """Forget every retirement, and what led to it."""
        for node in self.retired:
            self._records.pop(node, None)
        self.retired.clear()

    def _record(self, node: str) -> _Record:
        return self._records.setdefault(node, _Record())

    @staticmethod
    def _judge(record: _Record) -> None:
        """Turn deaths whose shards all came out clean into strikes, and forget what is settled."""
        kept: list[_Death] = []
        for death in record.deaths:
            near = [d for d in record.deaths if d is not death and _neighbours(d, death)]
            if death.explained or any(other.explained for other in near):
                # Kept as an explanation while a neighbour is not settled.
                if death.explained and any(other.open for other in near):
                    kept.append(death)
            elif death.open or any(other.open for other in near):
                kept.append(death)
            elif not any(death.shards & earlier for earlier in record.struck):
                record.struck.append(death.shards)
                record.commits = 0
        record.deaths = kept


def _neighbours(one: _Death, other: _Death) -> bool:
    return abs(one.at - other.at) <= NEIGHBOUR_S
