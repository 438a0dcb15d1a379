"""What the training steps of a distillation have told so far, read from their event files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from infra.storage import Storage
from infra.training_folder import EVENTS

Event = Mapping[str, Any]
# Not losses: where the step is, and how fast.
_PACE = frozenset({"steps_per_s", "samples_per_s", "world", "resume_s", "seconds", "lr"})


def parse_events(data: bytes) -> list[Event]:
    """Events of a file; a line that is no event is passed over."""
    found: list[Event] = []
    for line in data.decode(errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "kind" in event and isinstance(event.get("step"), int):
            found.append(event)
    return found


def read_events(storage: Storage, folder: str) -> list[Event]:
    """Every event of a training step, in order.

    Args:
        storage: of the run folder.
        folder: key prefix of the step.
    """
    found: list[Event] = []
    for key in sorted(storage.list(f"{folder}/{EVENTS}")):
        try:
            found += parse_events(storage.get(key))
        except KeyError:  # replaced in between
            continue
    return found


def train_events(events: Iterable[Event]) -> list[Event]:
    """Reports of training in the order of their steps; of steps made twice, the later report."""
    by_step = {event["step"]: event for event in events if event["kind"] == "train"}
    return [by_step[step] for step in sorted(by_step)]


def losses(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a report that are not about pace."""
    return {
        name: float(value)
        for name, value in numbers.items()
        if name not in _PACE and isinstance(value, (int, float))
    }


def steps_per_s(events: Iterable[Event]) -> tuple[float, int] | None:
    """Pace over the newest reports of training and how many they are; None without any."""
    rates = [
        float(event["numbers"]["steps_per_s"])
        for event in train_events(events)[-10:]
        if event.get("numbers", {}).get("steps_per_s")
    ]
    return (len(rates) / sum(1.0 / rate for rate in rates), len(rates)) if rates else None
