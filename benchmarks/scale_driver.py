"""One `geco generate` in a process of its own that reports when things happened and its own memory.

    python -m benchmarks.scale_driver '{"system": "noop", ...}' model.output=asset

It prints one line of JSON. Times are seconds since the process started; `peak_rss_mb` is the
driver's own (VmHWM), without Ray's processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from actors.scheduler import Scheduler
from geco_core.config.load import load
from geco_core.config.run import RunConfig
from infra.dataset import ShardSummary
from workflows import execute, generate, ray_engine
from workflows.generate import GenerateResult
from workflows.progress import Progress
from workflows.tally import Tally


class Timeline:
    """When something happened for the first or last time, in seconds since the process started."""

    def __init__(self) -> None:
        self.started_at = time.time() - _age_s()
        self.first: dict[str, float] = {}

    def mark(self, name: str, at: float | None = None) -> None:
        """Note the first time of an event; `at` in seconds since the epoch."""
        moment = (time.time() if at is None else at) - self.started_at
        self.first.setdefault(name, round(moment, 3))

    def mark_last(self, name: str) -> None:
        """Note the last time of an event."""
        self.first[name] = round(time.time() - self.started_at, 3)


class Watched:
    """A generate command whose steps leave marks on a timeline."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.work_s = 0.0
        self.deaths = 0
        self.shards = 0
        self._after(generate, "make_plan", "planned")
        self._after(generate, "todo_shards", "todo_known")
        self._after(Scheduler, "_submit", "first_assignment")
        self._before(execute, "draining", "engine_called")
        self._before(Progress, "started", "first_worker_ready")
        self._count_deaths()
        self._watch_commits()
        self._watch_ray()

    def _after(self, owner: Any, name: str, mark: str) -> None:
        call = getattr(owner, name)

        def marked(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            self.timeline.mark(mark)
            return result

        setattr(owner, name, marked)

    def _before(self, owner: Any, name: str, mark: str) -> None:
        call = getattr(owner, name)

        def marked(*arguments: Any, **options: Any) -> Any:
            self.timeline.mark(mark)
            return call(*arguments, **options)

        setattr(owner, name, marked)

    def _count_deaths(self) -> None:
        bury = Scheduler._bury  # noqa: SLF001 - a benchmark looks inside

        def counted(scheduler: Scheduler, *arguments: Any, **options: Any) -> None:
            self.deaths += 1
            bury(scheduler, *arguments, **options)

        setattr(Scheduler, "_bury", counted)  # noqa: B010 - not the declared signature

    def _watch_commits(self) -> None:
        add = Tally.add

        def added(tally: Tally, summary: ShardSummary) -> bool:
            self.shards += 1
            wall_s = summary.seconds.get("wall", 0.0)
            self.work_s += wall_s
            if summary.finished_at:
                finished = datetime.fromisoformat(summary.finished_at).timestamp()
                self.timeline.mark("first_shard_started", finished - wall_s)
            self.timeline.mark("first_commit_seen")
            self.timeline.mark_last("last_commit_seen")
            return add(tally, summary)

        setattr(Tally, "add", added)  # noqa: B010

    def _watch_ray(self) -> None:
        cluster = ray_engine.cluster

        @contextlib.contextmanager
        def marked(*arguments: Any) -> Iterator[dict[str, float]]:
            with cluster(*arguments) as resources:
                self.timeline.mark("ray_up")
                yield resources
                self.timeline.mark("engine_done")

        setattr(ray_engine, "cluster", marked)  # noqa: B010


def run(given: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """Run the command; returns what was seen."""
    timeline = Timeline()
    timeline.mark("imported")
    watched = Watched(timeline)
    result: GenerateResult = generate.generate(load(RunConfig, given, words))
    timeline.mark("ended")
    at_s = timeline.first
    return {
        "rows": result.plan.rows,
        "rows_made": result.fresh.rows_done,
        "shards_made": watched.shards,
        "complete": result.complete,
        "stopped": result.stopped,
        "counts": dict(result.fresh.counts),
        "reasons": dict(result.fresh.reasons),
        "stage_s": {k: round(v, 2) for k, v in result.fresh.seconds.items()},
        "engine_s": round(at_s["last_commit_seen"] - at_s["first_worker_ready"], 2),
        "committed_work_s": round(watched.work_s, 2),
        "deaths": watched.deaths,
        "peak_rss_mb": peak_rss_mb(),
        "at_s": at_s,
    }


def peak_rss_mb() -> float:
    """Peak resident memory of this process; `ru_maxrss` may be the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) / 1000, 1)
    return 0.0


def _age_s() -> float:
    """Seconds since this process was started, in steps of 10 ms."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    seen = run(json.loads(sys.argv[1]), sys.argv[2:])
    sys.stdout.write(json.dumps(seen) + "\n")
