"""A targets system in front of the content-addressed store: nothing is made that is there already.

Every target goes into the store as soon as it is made, so that the death of a process costs what it
was making and nothing else. Of two processes that make the same target the first one's is kept by
both, so that their rows are equal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from geco_core.config.run import S3Config
from geco_core.errors import BadItem, Fatal, Retryable
from geco_core.systems.targets import TargetsSystem
from geco_core.types import Condition, Generated, Item, MeshRow, System
from infra.retry import retried
from infra.targets.columns import encode_target
from infra.targets.place import StoreAddress
from infra.targets.store import DamagedTarget, StoredTarget, TargetStore
from infra.telemetry import log_event

log = logging.getLogger(__name__)

FOUND = "target taken from the store"
RACED = "target found in the store after it was made: that one is kept"
MENDED = "target made again: the one in the store was damaged"
NOT_KEPT = "target not kept in the store, which failed"


def with_store(system: System, address: StoreAddress | None, s3: S3Config) -> StoredTargets:
    """The system in front of its store. Raises `Fatal` when there is none for it."""
    if not isinstance(system, TargetsSystem) or address is None:
        raise Fatal("targets need a store", remedy="run `geco targets`", stage="load")
    return StoredTargets(system, TargetStore(address.open(s3)))


class StoredTargets:
    """Implements `System`: rows with the columns of targets.

    Args:
        inner: makes what is not there.
        store: by content.
        sleep: waits between tries of a store that fails.
    """

    def __init__(
        self,
        inner: TargetsSystem,
        store: TargetStore,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.name, self.preset, self.batch_size = inner.name, inner.preset, inner.batch_size
        self._inner, self._store = inner, store
        self._patience = {} if sleep is None else {"sleep": sleep}
        self._timing: Mapping[str, float] = {}

    def prepare(self, item: Item) -> Condition:
        """See `System.prepare`."""
        return self._inner.prepare(item)

    def generate(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        """Rows from the store where it has them; the others are made, and kept one by one."""
        self._timing = {}
        keys = [self._inner.key(c, s) for c, s in zip(conditions, seeds, strict=True)]
        rows: dict[int, Generated] = {}
        remarks: dict[int, str] = {}
        for i, key in enumerate(keys):
            self._look_up(i, key, rows, remarks)
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        missing = [i for i in sorted(first.values()) if i not in rows]
        made = self._inner.make([conditions[i] for i in missing], [seeds[i] for i in missing])
        for i, result in zip(missing, made, strict=True):
            if isinstance(result, BadItem):
                rows[i] = result
                continue
            noise = self._inner.noise_seeds(seeds[i])
            stored = StoredTarget(encode_target(result.target, noise), result.mesh)
            log_event(
                log, "target_made", level=logging.DEBUG, item_id=conditions[i].item_id, key=keys[i]
            )
            rows[i] = self._kept(stored, remarks.get(i, ""))
        if missing:
            self._timing = self._inner.timing()
        return [rows[i] if i in rows else _again(rows[first[key]]) for i, key in enumerate(keys)]

    def provenance(self) -> Mapping[str, Any]:
        """See `System.provenance`."""
        return self._inner.provenance()

    def timing(self) -> Mapping[str, float]:
        """Seconds of the last `generate` call; none where everything came from the store."""
        return self._timing

    def _look_up(
        self, i: int, key: str, rows: dict[int, Generated], remarks: dict[int, str]
    ) -> None:
        try:
            stored = self._retried(lambda: self._store.get(key))
        except DamagedTarget as error:
            log_event(log, "target_damaged", level=logging.WARNING, key=key, problem=str(error))
            remarks[i] = MENDED
            return
        except Retryable as error:
            log_event(log, "store_failed", level=logging.WARNING, key=key, problem=error.message)
            return
        if stored is not None:
            rows[i] = MeshRow(stored.mesh, stored.columns, (FOUND,))

    def _kept(self, stored: StoredTarget, remark: str) -> MeshRow:
        """The row of a target that was made just now, or of the one that was faster."""
        notes = (remark,) if remark else ()
        try:
            if self._retried(lambda: self._store.put(stored, replace=bool(remark))):
                return MeshRow(stored.mesh, stored.columns, notes)
            standing = self._retried(lambda: self._store.get(stored.columns["target_key"]))
        except DamagedTarget:
            return self._kept(stored, MENDED)
        except Retryable as error:
            key = stored.columns["target_key"]
            log_event(log, "store_failed", level=logging.WARNING, key=key, problem=error.message)
            return MeshRow(stored.mesh, stored.columns, (*notes, NOT_KEPT))
        if standing is None:
            return MeshRow(stored.mesh, stored.columns, (*notes, NOT_KEPT))
        return MeshRow(standing.mesh, standing.columns, (*notes, RACED))

    def _retried(self, action: Callable[[], Any]) -> Any:
        return retried(action, **self._patience)


def _again(result: Generated) -> Generated:
    """The row of an item that is another one of its batch: same pixels, same seed."""
    return replace(result, notes=(FOUND,)) if isinstance(result, MeshRow) else result
