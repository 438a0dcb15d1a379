"""What a campaign did and found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.trials import KINDS, Trial
from tests.chaos.verdict import Damage


@dataclass
class Result:
    """All trials and what they add up to."""

    trials: list[Trial] = field(default_factory=list)
    wall_s: float = 0.0
    left_running: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """No damage, and nothing runs any more."""
        return not self.damage.total and not self.left_running

    @property
    def damage(self) -> Damage:
        total = Damage()
        for trial in self.trials:
            total.add(trial.damage)
        return total

    @property
    def kills(self) -> int:
        return sum(sum(trial.strikes.values()) for trial in self.trials)

    def cells(self) -> list[dict[str, object]]:
        """One row per store and kind; damage is that of the trials in which the kind took part."""
        rows = []
        for store in dict.fromkeys(trial.store for trial in self.trials):
            for kind in KINDS:
                took_part = [t for t in self.trials if t.store == store and t.strikes[kind]]
                if took_part:
                    rows.append(_cell(store, kind, took_part))
        return rows

    def to_json(self) -> dict[str, object]:
        """Everything."""
        return {
            "kills": self.kills,
            "wall_s": round(self.wall_s, 1),
            "damage": self.damage.to_json(),
            "left_running": self.left_running,
            "cells": self.cells(),
            "trials": [trial.to_json() for trial in self.trials],
        }

    def table(self) -> str:
        """The cells and the total as text."""
        names = ["store", "kind", "kills", "lost", "duplicated", "unreadable", "different"]
        names += ["stuck", "torn", "orphans", "seconds"]
        damage = self.damage.to_json()
        total = {
            "store": "all",
            "kind": "all",
            "kills": self.kills,
            "seconds": f"{self.wall_s:.0f}",
        }
        rows = [*self.cells(), {**damage, **total}]
        lines = [names, *([str(row[name]) for name in names] for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
        text = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
        trials = len(self.trials)
        text.append(f"{trials} run folders; the damage of a folder counts for every kind in it")
        text += [f"  {line}" for line in self.damage.details[:40]]
        text += [f"  still running: {name}" for name in self.left_running]
        return "\n".join(text) + "\n"


def _cell(store: str, kind: str, trials: Sequence[Trial]) -> dict[str, object]:
    damage = Damage()
    for trial in trials:
        damage.add(trial.damage)
    seconds = sum(trial.seconds[kind] for trial in trials)
    row: dict[str, object] = {"store": store, "kind": kind}
    row["kills"] = sum(trial.strikes[kind] for trial in trials)
    row |= damage.to_json()
    row["seconds"] = round(seconds)
    del row["details"]
    return row
