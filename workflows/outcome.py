"""How a command that made rows ended: the lines it prints and the code it exits with."""

from __future__ import annotations

from workflows.drain import exit_code as signal_code
from workflows.generate import GenerateResult
from workflows.words import counted

OK, OVER_LIMIT = 0, 1


def exit_code(result: GenerateResult, max_failure_rate: float) -> int:
    """0 when every item is terminal and failures are within the limit; after a signal 128 + its
    number, unless nothing was left to do.
    """
    if result.signal and not result.complete:
        return signal_code(result.signal)
    within = result.state.failure_rate <= max_failure_rate
    return OK if result.complete and within and not result.stopped else OVER_LIMIT


def summary(
    result: GenerateResult,
    out: str,
    max_failure_rate: float = 1.0,
    *,
    resume: str = "the same command resumes",
) -> str:
    """What stands in the run, what this command added, and how to go on.

    Args:
        result: how the command ended.
        out: the run.
        max_failure_rate: the accepted share of failures.
        resume: how to make the items that are missing.
    """
    state = result.state
    reasons = ", ".join(f"{reason} {count}" for reason, count in state.reasons.most_common())
    lines = [
        f"{state.rows_done:,} of {counted(result.plan.rows, 'item')}: "
        f"{state.counts['done']:,} done, {state.failed:,} failed, "
        f"{state.counts['skipped']:,} skipped" + (f" ({reasons})" if reasons else "")
    ]
    made = result.fresh.rows_done - result.adopted.rows_done
    if made:
        rate = made / max(result.wall_s, 1e-9)
        lines.append(
            f"made now: {counted(made, 'item')} in {result.wall_s:.1f} s ({rate:.3g} items/s)"
        )
    if result.adopted.shards_done:
        lines.append(
            f"found already made by another command: {counted(result.adopted.shards_done, 'shard')}"
        )
    lines += result.remarks
    if result.signal:
        lines.append("stopped by a signal")
    if result.stopped:
        lines.append(f"stopped early: {result.stopped}")
    elif result.complete and state.failure_rate > max_failure_rate:
        lines.append(
            f"more failures than accepted: {state.failure_rate:.3g} of the items that were tried, "
            f"max_failure_rate is {max_failure_rate:g}"
        )
    if not result.complete:
        lines.append(resume)
    lines.append(f"dataset: {out.rstrip('/')}/assets")
    return "\n".join(lines) + "\n"
