"""What a million rows cost the engine: a whole run, and the resume of a run that is 99% done.

    python -m benchmarks.engine_scale --rows 1000000 --json

The noop system hands out one prebuilt asset, so that only the engine is measured; thumbnails are
off and every shard has 256 rows. Three measurements:

    whole         every row from nothing. Engine time is the wall time from the first worker ready
                  to the last commit.
    resume_local  every hundredth shard is missing, on a local disk. Measured: seconds from "Ray is
                  up" to the first missing shard started, and the driver's peak memory.
    resume_s3     the same in an S3 server on loopback (moto).

For the resumes the done records are written without their parts: nothing before the first
assignment may look at a part, and the done record is what says that a shard is done.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.machine import print_machine, save_result
from benchmarks.manifests import write_manifest
from geco_core.config.load import load
from geco_core.config.run import RunConfig
from infra.commit import rewrite_done
from infra.dataset import ShardSummary
from infra.environment import describe_environment
from infra.plan import Plan, make_plan, open_run
from infra.storage import open_storage
from workflows.generate import describe_run_system

SHARD_SIZE = 256
MISSING_EVERY = 100
WRITERS = 16
TARGETS = {"engine_s": 60.0, "first_shard_s": 15.0, "peak_rss_mb": 300.0}
WORDS = ["model.output=asset", "model.batch_size=64", "thumbnail_size=0"]
MEASUREMENTS = ("whole", "resume_local", "resume_s3")


def run_driver(
    given: Mapping[str, Any], words: list[str], environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """`geco generate` in its own process; returns what it reports."""
    command = [sys.executable, "-m", "benchmarks.scale_driver", json.dumps(dict(given)), *words]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ)
    return json.loads(ended.stdout.strip().splitlines()[-1])


def write_done_state(given: Mapping[str, Any], words: list[str]) -> tuple[Plan, float]:
    """Open the run and write the done records of 99% of its shards; returns the seconds it took."""
    begun = time.monotonic()
    config = load(RunConfig, dict(given), words)
    storage = open_storage(config.out)
    plan = make_plan(storage, config)
    open_run(storage, config, plan, describe_run_system(config), describe_environment(), "")

    def write(index: int) -> None:
        rewrite_done(storage, _summary(plan, index))

    done = [index for index in range(plan.shards) if index % MISSING_EVERY]
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, done))
    return plan, time.monotonic() - begun


def _summary(plan: Plan, index: int) -> ShardSummary:
    shard = plan.shard(index)
    counts = {"done": shard.stop - shard.start}
    seconds = {"fetch": 0.001, "prepare": 0.01, "generate": 25.6, "finish": 2.5, "wall": 30.0}
    at = "2026-01-01T00:00:00.000+00:00"
    return ShardSummary(index, shard.start, shard.stop, counts, {}, seconds, "machine:1234", at)


def measure_whole(given: Mapping[str, Any], words: list[str]) -> dict[str, Any]:
    """Every row from nothing."""
    seen = run_driver(given, words)
    rate = seen["rows_made"] / seen["engine_s"] if seen["engine_s"] else 0.0
    return {**seen, "rows_per_s": round(rate)}


def measure_resume(given: Mapping[str, Any], words: list[str]) -> dict[str, Any]:
    """99% done: what happens before the first missing shard."""
    plan, setup_s = write_done_state(given, words)
    seen = run_driver(given, words)
    at_s = seen["at_s"]
    return {
        **seen,
        "shards": plan.shards,
        "setup_s": round(setup_s, 1),
        "first_shard_s": round(at_s["first_shard_started"] - at_s["ray_up"], 2),
        "first_assignment_s": round(at_s["first_assignment"] - at_s["ray_up"], 2),
    }


def measure(name: str, folder: Path, rows: int, workers: int) -> dict[str, Any]:
    """One of `MEASUREMENTS`."""
    manifest = folder / "manifest.parquet"
    if not manifest.exists():
        write_manifest(manifest, rows)
    given: dict[str, Any] = {
        "system": "noop",
        "workers": workers,
        "shard_size": SHARD_SIZE,
        "manifest": str(manifest),
        "out": str(folder / name),
    }
    if name == "whole":
        return measure_whole(given, WORDS)
    if name == "resume_local":
        return measure_resume(given, WORDS)
    from tests.support.s3_servers import environment, moto_server  # noqa: PLC0415 - only here

    with moto_server(folder / "moto") as server, environment(server.env):
        given["out"] = f"{server.create_bucket('scale')}/run"
        return measure_resume(given, WORDS)


def misses(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Targets that were not met, in words."""
    found = []
    for name, seen in results.items():
        found += [f"{name}: not complete"] if not seen["complete"] else []
        limits = {"peak_rss_mb"} | ({"engine_s"} if name == "whole" else {"first_shard_s"})
        found += [
            f"{name}: {key} {seen[key]} of {TARGETS[key]}"
            for key in sorted(limits)
            if seen[key] > TARGETS[key]
        ]
    return found


def main() -> int:
    """Console entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    parser.add_argument("--json", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    print_machine()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="geco-bench-", dir=options.folder) as folder:
        for name in options.only:
            load_before = os.getloadavg()[0]
            results[name] = measure(name, Path(folder), options.rows, options.workers)
            results[name]["load_before"] = round(load_before, 2)
            print(json.dumps({name: results[name]}, indent=1), flush=True)
    missed = misses(results)
    for line in missed:
        print(line)
    if options.json:
        settings = {"rows": options.rows, "shard_size": SHARD_SIZE, "workers": options.workers}
        definition = "engine_s: from the first worker ready to the last commit"
        content = {**settings, "targets": TARGETS, "definition": definition, "missed": missed}
        print(save_result("engine_scale", {**content, **results}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
