"""What the training steps of a distillation have told so far, from their events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from infra.training_folder import Event

# Not losses: where the step is, and how fast.
_PACE = frozenset({"steps_per_s", "samples_per_s", "world", "resume_s", "seconds", "lr"})


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
