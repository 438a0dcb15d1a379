"""`geco repair`: open a run, repair it, say what was done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from geco_core.config.run import S3Config
from infra.remake import remake_shards
from infra.repair import Act, repair_run
from workflows.run_access import open_existing_run
from workflows.words import counted

MAX_LINES = 200


def repair_text(
    uri: str,
    s3: S3Config | None = None,
    *,
    dry_run: bool = False,
    remake: Sequence[int] = (),
    now: Callable[[], float] = time.time,
) -> str:
    """Repair the run at a path or URI and list the actions.

    Args:
        uri: of the run.
        s3: how a run at an `s3://` URI is reached.
        dry_run: list the actions without doing them.
        remake: shards whose rows are given up instead; nothing else is repaired then.
        now: seconds since the epoch.

    Raises:
        ConfigError: there is no run.
        Fatal, Retryable: the store failed; the same command goes on.
    """
    run = open_existing_run(uri, s3)
    done: Counter[Act] = Counter()
    lines: list[str] = []
    if remake:
        actions = remake_shards(run.storage, run.plan, remake, dry_run=dry_run)
    else:
        actions = repair_run(run.storage, run.plan, now=now(), dry_run=dry_run)
    for action in actions:
        done[action.act] += 1
        if len(lines) < MAX_LINES:
            lines.append(f"{action.act.value:16} {action.message}")
    hidden = done.total() - len(lines)
    if hidden:
        lines.append(f"and {hidden:,} more")
    lines.append(_sum(done, dry_run=dry_run))
    if done[Act.WITHDRAW_DONE]:
        lines.append("the geco generate that made the run makes withdrawn shards again")
    return "\n".join(lines) + "\n"


def _sum(done: Counter[Act], *, dry_run: bool) -> str:
    actions = done.total() - done[Act.LEFT_ALONE]
    if not actions:
        return "nothing to repair"
    parts = ", ".join(f"{act.value} {done[act]:,}" for act in Act if done[act])
    return f"{counted(actions, 'action')}{' to do' if dry_run else ' done'}: {parts}"
