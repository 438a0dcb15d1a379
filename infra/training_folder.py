"""The folder of a training stage: what is written there besides checkpoints.

```
stage.json                  what the stage depends on; created once
checkpoints/step-*.pt       see `infra.checkpoints`
events/step-*.jsonl         what happened, one object per flush
samples/step-*.png          sample sheets
weights.safetensors         the result, written last
```
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from geco_core.errors import Fatal
from infra.commit import create_once
from infra.retry import retried
from infra.storage import Storage

STAGE_KEY = "stage.json"
WEIGHTS_KEY = "weights.safetensors"
EVENTS, SAMPLES = "events", "samples"
Event = Mapping[str, Any]


def pin_stage(storage: Storage, record: dict[str, Any]) -> dict[str, Any]:
    """Write what the stage depends on, unless it is there; returns the record that stands."""
    return retried(lambda: create_once(storage, STAGE_KEY, record))


def standing_stage(storage: Storage) -> dict[str, Any]:
    """What the stage in this folder depends on. Raises `Fatal` when the record is gone."""
    try:
        return json.loads(retried(lambda: storage.get(STAGE_KEY)))
    except (KeyError, ValueError) as error:
        raise Fatal(
            f"{storage.uri} holds weights without a readable {STAGE_KEY}",
            stage="train",
            remedy="give another folder",
        ) from error


def put_events(storage: Storage, events: Sequence[Event]) -> None:
    """Write the events since the last flush.

    Their object is named by the last one's step, so that an attempt that makes steps again replaces
    what was told of them; what ends or begins an attempt has a name of its own.
    """
    last = events[-1]
    kind = "" if any(event["kind"] == "train" for event in events) else f"_{last['kind']}"
    lines = "".join(f"{json.dumps(event, sort_keys=True)}\n" for event in events)
    key = f"{EVENTS}/step-{last['step']:06d}{kind}.jsonl"
    retried(lambda: storage.put_atomic(key, lines.encode()))


def read_events(storage: Storage, folder: str = "") -> list[Event]:
    """Events of a stage in order; a file or line that can not be read is passed over.

    Args:
        storage: that holds the stage.
        folder: key prefix of the stage; "" when the storage is of the stage's own folder.
    """
    prefix = f"{folder}/{EVENTS}" if folder else EVENTS
    return [event for key in _keys(storage, prefix) for event in _events_of(storage, key)]


def last_event(storage: Storage, kind: str) -> Event | None:
    """The last event of a kind; None when there is none."""
    for key in reversed(_keys(storage, EVENTS)):
        found = [event for event in _events_of(storage, key) if event["kind"] == kind]
        if found:
            return found[-1]
    return None


def put_sample(storage: Storage, step: int, png: bytes) -> None:
    """Write a sample sheet."""
    retried(lambda: storage.put_atomic(f"{SAMPLES}/step-{step:06d}.png", png))


def put_weights(storage: Storage, path: Path) -> None:
    """Write the result of the stage."""
    retried(lambda: storage.put_atomic(WEIGHTS_KEY, path))


def has_weights(storage: Storage) -> bool:
    """Whether the stage is finished."""
    return retried(lambda: storage.exists(WEIGHTS_KEY))


def _keys(storage: Storage, prefix: str) -> list[str]:
    return sorted(retried(lambda: list(storage.list(prefix))))


def _events_of(storage: Storage, key: str) -> Iterator[Event]:
    try:
        data = retried(lambda: storage.get(key))
    except KeyError:  # replaced since it was listed
        return
    for line in data.decode(errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "kind" in event and isinstance(event.get("step"), int):
            yield event
