"""`repair`: make the index agree with the parts, and collect what no reader uses.

The parts are the truth. A done record that is missing, damaged or different is written again from
the footer of its part; one without a whole part is withdrawn, so that `geco generate` makes the
shard again. Only three things are removed: parts whose footer can not be read (nobody can read
their rows), generations below the one that counts, and saved rows and unfinished writes that nobody
will come back for. A part that reads but holds other rows than the plan says is left alone.

Safe while a run is on, and idempotent: a writer that is between its part and its done record finds
its own record; what is removed was checked a moment before; unfinished writes younger than
`STALE_TEMPORARY_S` may belong to a living process and stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from geco_core.errors import Fatal
from infra.commit import (
    agree,
    attempts_key,
    done_key,
    drop_generation,
    part_key,
    reads_as_parquet,
    remove_damaged_part,
    remove_leftover,
    rewrite_done,
    stored_summary,
    withdraw_done,
)
from infra.dataset import ShardSummary
from infra.plan import Plan
from infra.retry import retried
from infra.run_state import read_done
from infra.storage import Storage
from infra.survey_keys import RunKeys, survey_keys, unfinished_writes

STALE_TEMPORARY_S = 3600.0
THREADS = 8


class Act(StrEnum):
    """What a repair does."""

    REWRITE_DONE = "rewrite_done"
    WITHDRAW_DONE = "withdraw_done"
    REMOVE_DAMAGED = "remove_damaged"
    DROP_SUPERSEDED = "drop_superseded"
    REMOVE_LEFTOVER = "remove_leftover"
    SWEEP_TEMPORARY = "sweep_temporary"
    LEFT_ALONE = "left_alone"


@dataclass(frozen=True)
class Action:
    """One action, done or only planned.

    Attributes:
        act: what is done.
        message: why, with the key.
        shard: where, if it belongs to one.
        perform: does it; None when there is nothing to do.
    """

    act: Act
    message: str
    shard: int | None = None
    perform: Callable[[], object] | None = None


def repair_run(
    storage: Storage, plan: Plan, *, now: float, dry_run: bool = False
) -> Iterator[Action]:
    """Repair a run; yields every action after it was done.

    Args:
        storage: of the run folder.
        plan: pinned in its `run.json`.
        now: seconds since the epoch.
        dry_run: yield the actions without doing them.

    Raises:
        Retryable, Fatal: the store failed; repairing again goes on.
    """
    for action in _actions(storage, plan, survey_keys(storage)):
        yield carried_out(action, dry_run=dry_run)
    before = now - STALE_TEMPORARY_S
    swept = len(unfinished_writes(storage, before)) if dry_run else storage.sweep_temporary(before)
    if swept:
        yield Action(Act.SWEEP_TEMPORARY, f"{swept} unfinished writes older than an hour")


def carried_out(action: Action, *, dry_run: bool = False) -> Action:
    """The action, after it was done unless this is a dry run. Raises `Retryable`, `Fatal`."""
    if not dry_run and action.perform is not None:
        retried(action.perform)
    return action


def adopt_finished(storage: Storage, plan: Plan, keys: RunKeys) -> Iterator[Action]:
    """Complete what a retry left when it was killed: commit parts above the generation that counts,
    and drop the generations below.
    """
    for shard in keys.shards():
        generations = keys.parts.get(shard, set()) | keys.done.get(shard, set())
        if shard < plan.shards and len(generations) > 1:
            for action in _shard_actions(storage, plan, keys, shard):
                yield carried_out(action)


def _actions(storage: Storage, plan: Plan, keys: RunKeys) -> Iterator[Action]:
    """All actions in shard order; footers are read by several threads, a bounded number ahead."""
    waiting: deque[Future[list[Action]]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="repair") as pool:
        for shard in keys.shards():
            if shard < plan.shards:
                waiting.append(pool.submit(_listed, storage, plan, keys, shard))
            elif shard in keys.done or shard in keys.parts:
                message = f"shard {shard} is not in the plan of {plan.shards} shards"
                yield Action(Act.LEFT_ALONE, message, shard)
            if len(waiting) >= THREADS * 2:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _listed(storage: Storage, plan: Plan, keys: RunKeys, shard: int) -> list[Action]:
    return list(_shard_actions(storage, plan, keys, shard))


def _shard_actions(storage: Storage, plan: Plan, keys: RunKeys, shard: int) -> Iterator[Action]:
    """The actions on one shard: done records first, then what the best generation makes useless."""
    whole: dict[int, ShardSummary] = {}
    for generation in sorted(keys.parts.get(shard, ())):
        summary = _whole(storage, plan, shard, generation)
        if summary is not None:
            whole[generation] = summary
    best = max(whole, default=None)
    done = keys.done.get(shard, set())
    for generation in sorted(done - whole.keys()):
        yield from _without_part(storage, keys, shard, generation)
    for generation in sorted(keys.parts.get(shard, set()) - whole.keys() - done):
        yield _damaged(storage, shard, generation)
    if best is None:
        return
    yield from _index(storage, whole[best], has_done=best in done)
    for generation in sorted(generation for generation in whole if generation < best):
        yield Action(
            Act.DROP_SUPERSEDED,
            f"{part_key(shard, generation)}: generation {best} counts",
            shard,
            lambda generation=generation: drop_generation(
                storage, shard, generation, successor=best
            ),
        )
    yield from _leftovers(storage, keys, shard, best, whole.keys())


def _whole(storage: Storage, plan: Plan, shard: int, generation: int) -> ShardSummary | None:
    """The footer of a part that holds the rows of the plan."""
    summary = retried(lambda: stored_summary(storage, shard, generation))
    rows = plan.shard(shard)
    if summary is None or (summary.start, summary.stop) != (rows.start, rows.stop):
        return None
    return summary


def _without_part(storage: Storage, keys: RunKeys, shard: int, generation: int) -> Iterator[Action]:
    """A done record whose part is missing, damaged or of other rows."""
    # Done records were listed before the parts: a part that is not listed is really gone.
    listed = generation in keys.parts.get(shard, ())
    found = _damaged(storage, shard, generation) if listed else None
    why = "is missing"
    if found is not None:
        reads = found.act is Act.LEFT_ALONE
        why = "does not hold the rows of the shard" if reads else "can not be read"
    yield Action(
        Act.WITHDRAW_DONE,
        f"{done_key(shard, generation)}: its part {why}",
        shard,
        lambda: withdraw_done(storage, shard, generation),
    )
    if found is not None:
        yield found


def _damaged(storage: Storage, shard: int, generation: int) -> Action:
    key = part_key(shard, generation)
    if _reads(storage, key):
        return Action(Act.LEFT_ALONE, f"{key} reads, and holds other rows than the plan", shard)
    return Action(
        Act.REMOVE_DAMAGED,
        f"{key} can not be read",
        shard,
        lambda: remove_damaged_part(storage, shard, generation),
    )


def _reads(storage: Storage, key: str) -> bool:
    try:
        data = retried(lambda: storage.get(key))
    except KeyError:
        return False
    return reads_as_parquet(pa.BufferReader(data))


def _index(storage: Storage, footer: ShardSummary, *, has_done: bool) -> Iterator[Action]:
    """The done record of the generation that counts."""
    key = done_key(footer.shard, footer.generation)
    why = f"{key}: missing"
    if has_done:
        try:
            record = retried(lambda: read_done(storage, footer.shard, footer.generation))
        except (KeyError, Fatal):
            why = f"{key}: damaged"
        else:
            if agree(record, footer):
                return
            why = f"{key}: differs from the footer of its part"
    yield Action(Act.REWRITE_DONE, why, footer.shard, lambda: rewrite_done(storage, footer))


def _leftovers(
    storage: Storage, keys: RunKeys, shard: int, best: int, whole: Collection[int]
) -> Iterator[Action]:
    """Crash records and saved rows up to the generation that counts."""
    stale = [
        attempts_key(shard, generation)
        for generation in sorted(keys.attempts.get(shard, ()))
        if generation < best and generation not in whole  # those fall with their part
    ]
    for generation in range(best + 1):
        stale += sorted(keys.partials.get((shard, generation), ()))
    for key in stale:
        yield Action(
            Act.REMOVE_LEFTOVER,
            f"{key}: the shard is committed",
            shard,
            lambda key=key: remove_leftover(storage, key),
        )
