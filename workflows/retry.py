"""`geco retry`: make failed rows again, by reason. All other rows of their shards are kept as they
are.

Per shard: the next generation of its part is committed beside the standing one, from then on
readers use it, and then the old one is removed. Killed anywhere in between, the next retry or `geco
repair` finishes that.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.order import WorkOrder
from actors.stop import Stop
from geco_core.config.load import load, read_layers
from geco_core.config.run import PINNED, RunConfig
from geco_core.errors import ConfigError, Reason, Retryable
from infra.commit import drop_generation, put_card
from infra.dataset import ShardSummary
from infra.plan import check_run
from infra.repair import adopt_finished
from infra.run_state import RunState, read_state, read_summaries
from infra.storage import Storage
from infra.survey_keys import survey_keys
from infra.telemetry import log_event
from workflows.card import dataset_card
from workflows.execute import execute
from workflows.generate import GenerateResult, describe_run_system
from workflows.run_access import OpenRun, open_existing_run
from workflows.tally import Tally
from workflows.words import counted

log = logging.getLogger(__name__)

# Decided by the manifest, which a run pins: made again, these rows would end the same way.
OF_THE_MANIFEST = frozenset({Reason.DUPLICATE_ID, Reason.MALFORMED_ROW, Reason.MISSING_INPUT})
ACCEPT_ALL = 1.0


@dataclass(frozen=True)
class RetryWish:
    """Which failed rows to make again."""

    reasons: tuple[Reason, ...]

    @staticmethod
    def parse(names: Sequence[str], *, every: bool) -> RetryWish:
        """From reason codes, or all that can end differently.

        Raises:
            ConfigError: an unknown code, or one that making again can not change.
        """
        if every:
            return RetryWish(tuple(r for r in Reason if r not in OF_THE_MANIFEST))
        known = [reason.value for reason in Reason if reason not in OF_THE_MANIFEST]
        for name in names:
            if name in {reason.value for reason in OF_THE_MANIFEST}:
                raise ConfigError(
                    f"rows that are {name} end so again: the manifest says so",
                    remedy="start a run with a corrected manifest",
                )
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"reasons: {', '.join(known)}"
                raise ConfigError(f"there is no reason {name!r}", remedy=hint)
        return RetryWish(tuple(Reason(name) for name in dict.fromkeys(names)))

    def rows(self, summary: ShardSummary) -> int:
        """How many rows of a shard it is about."""
        return sum(summary.reasons.get(reason.value, 0) for reason in self.reasons)


class RetryTally(Tally):
    """Counts commits, and removes the generation that each of them supersedes.

    Failures never stop a retry: it is bounded, and its shards were picked for theirs.

    Attributes:
        again: rows made again.
        mended: how many of them are done now.
    """

    def __init__(
        self, storage: Storage, wish: RetryWish, before: Mapping[int, ShardSummary]
    ) -> None:
        super().__init__(ACCEPT_ALL)
        self._storage, self._wish, self._before = storage, wish, before
        self.again = self.mended = 0

    def add(self, summary: ShardSummary) -> bool:
        """See `Tally.add`. A store that fails here costs space, not rows: repair collects."""
        before = self._before[summary.shard]
        self.again += self._wish.rows(before)
        self.mended += summary.counts.get("done", 0) - before.counts.get("done", 0)
        for generation in range(summary.generation):
            try:
                drop_generation(
                    self._storage, summary.shard, generation, successor=summary.generation
                )
            except Retryable as error:
                log_event(log, "not_dropped", shard=summary.shard, error=error.message)
        return super().add(summary)

    def remark(self) -> str:
        """What came of it, as a sentence."""
        shards = counted(self.state.shards_done, "shard")
        return f"made again: {counted(self.again, 'row')} of {shards}, {self.mended:,} done now"


def retry_run(
    uri: str,
    wish: RetryWish,
    yaml: str | None = None,
    words: Sequence[str] = (),
    *,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[GenerateResult | None, float]:
    """Make the failed rows of a run again that the wish is about.

    Args:
        uri: of the run.
        wish: which rows.
        yaml: settings file; what the run pins is kept.
        words: `key=value` settings: how to execute.
        clock: monotonic seconds.

    Returns:
        How it ended, None when there was nothing to do; and the accepted share of failures.

    Raises:
        ConfigError: there is no run, or the settings differ from what it pins.
        Fatal: the run can not go on; what is committed stays.
    """
    run, config = _open(uri, yaml, words)
    for action in adopt_finished(run.storage, run.plan, survey_keys(run.storage)):
        log_event(log, "finished_before", act=action.act.value, message=action.message)
    before = {s.shard: s for s in read_summaries(run.storage) if wish.rows(s)}
    if not before:
        return None, config.max_failure_rate
    generations = {shard: summary.generation + 1 for shard, summary in before.items()}
    order = WorkOrder(tuple(sorted(before)), generations, wish.reasons)
    tally, stop = RetryTally(run.storage, wish, before), Stop(config.drain_timeout_s)
    log_event(log, "retry_opened", shards=len(order.shards), reasons=len(wish.reasons))
    wall_s = execute(config, run.storage, run.plan, order, tally, clock, stop)
    state = read_state(run.storage)
    put_card(run.storage, dataset_card(run.record, state))
    result = GenerateResult(
        plan=run.plan,
        state=state,
        fresh=RunState(),
        adopted=RunState(),
        remarks=(tally.remark(), *tally.remarks),
        stopped=tally.stopped,
        signal=stop.signal,
        wall_s=wall_s,
    )
    return result, config.max_failure_rate


def preview_retry(
    uri: str, wish: RetryWish, yaml: str | None = None, words: Sequence[str] = ()
) -> str:
    """What a retry would make, by reason. Raises what `retry_run` raises before any work."""
    run, _ = _open(uri, yaml, words)
    rows: Counter[str] = Counter()
    shards, kept = 0, 0
    for summary in read_summaries(run.storage):
        again = wish.rows(summary)
        if again:
            shards += 1
            kept += summary.rows - again
            rows.update({r.value: summary.reasons.get(r.value, 0) for r in wish.reasons})
    lines = [f"{reason:20} {counted(n, 'row')}" for reason, n in rows.most_common() if n]
    total = f"{counted(rows.total(), 'row')} of {counted(shards, 'shard')} would be made again"
    return "\n".join([*lines, f"{total}, {kept:,} others of these shards are kept"]) + "\n"


def _open(uri: str, yaml: str | None, words: Sequence[str]) -> tuple[OpenRun, RunConfig]:
    """The run, and how to execute: its own pinned settings, then the file, then the words."""
    given: dict[str, Any] = read_layers(Path(yaml)) if yaml else {}
    free = {key: value for key, value in given.items() if key not in PINNED}
    run = open_existing_run(uri, load(RunConfig, free, words).s3)
    pinned = {key: run.record["config"][key] for key in PINNED if key in run.record["config"]}
    config = load(RunConfig, free | pinned, words)
    config = replace(config, out=uri, manifest=str(run.record["manifest"]["source"]))
    check_run(run.record, config, run.plan, describe_run_system(config))
    return run, config
