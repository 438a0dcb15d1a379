"""What a manifest full of poison costs: items that break in every way, beside the same run without.

    python -m benchmarks.poison --items 10000 --permille 20 --json

The noop system sleeps 10 ms per item and hands out a finished asset for a sound one, so that the
engine is measured and not the finishing of boxes (`--output mesh` finishes them). Of every 1000
items, `--permille` break in each of ten ways: an exception, a bad item, a segfault, SIGKILL, a hang
that holds the GIL, one that does not, memory without end, coordinates that are not finite, an empty
mesh, and a mesh that ends the process that finishes it. The run must end by itself with every
poison item failed under its own reason and all others done.

Throughput outside the replays. A shard is *undisturbed* when all its rows were done at the first
attempt and none of its passes ended in a death. Over the undisturbed shards of the run with poison:

    busy    rows per second of fetching, preparing, generating and finishing
    wall    rows per second between a shard's start and its commit

each against the same number over all shards of the run without poison. What the disturbed shards
cost is told by the deaths, the repeated rows and the total wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.engine_scale import run_driver
from benchmarks.machine import print_machine, save_result
from benchmarks.manifests import write_manifest
from geco_core.config.load import load
from geco_core.systems.noop import NoopConfig, expected_reason
from infra.commit import part_key
from infra.dataset import ShardSummary
from infra.run_state import crashed_shards, done_generations, read_summaries
from infra.storage import LocalStorage

KINDS = (
    "generate", "bad_item", "segfault", "sigkill", "hang", "hang_python", "oom", "non_finite",
    "empty", "finish",
)  # fmt: skip
BUSY_STAGES = ("fetch", "prepare", "generate", "finish")
TARGET_RATIO = 0.9
LIMIT_S = 1200.0


@dataclass
class Verdict:
    """What the rows of a run say.

    Attributes:
        items: rows found.
        wrong: rows that did not end as they must: `id: expected, found`.
        reasons: poison rows by reason.
        repeated_rows: rows that were generated more than once.
        undisturbed: shards whose rows were all done at the first attempt.
    """

    items: int = 0
    wrong: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    repeated_rows: int = 0
    undisturbed: set[int] = field(default_factory=set)


def judge(storage: LocalStorage, config: NoopConfig) -> Verdict:
    """Compare every row with what its id must become."""
    verdict = Verdict()
    crashed = crashed_shards(storage)
    seen: Counter[str] = Counter()
    columns = ["item_id", "status", "reason", "attempts"]
    for shard, generation in sorted(done_generations(storage).items()):
        with storage.open_for_pyarrow(part_key(shard, generation)) as file:
            rows = pq.read_table(file, columns=columns).to_pylist()
        seen.update(row["item_id"] for row in rows)
        for row in rows:
            _judge_row(row, config, verdict)
        if shard not in crashed and all(_at_first_attempt(row) for row in rows):
            verdict.undisturbed.add(shard)
    verdict.items = len(seen)
    verdict.wrong += [f"{item_id}: {count} rows" for item_id, count in seen.items() if count > 1]
    return verdict


def _judge_row(row: Mapping[str, Any], config: NoopConfig, verdict: Verdict) -> None:
    expected = expected_reason(config, row["item_id"])
    wanted = "done" if expected is None else expected.value
    found = row["reason"] or row["status"]
    if found != wanted:
        verdict.wrong.append(f"{row['item_id']}: expected {wanted}, found {found}")
    if expected is not None:
        verdict.reasons[found] += 1
    verdict.repeated_rows += row["attempts"] > 1


def _at_first_attempt(row: Mapping[str, Any]) -> bool:
    return row["status"] == "done" and row["attempts"] == 1


def rates(summaries: Iterable[ShardSummary]) -> dict[str, float]:
    """Rows per second of replica time, by both definitions; 0 without shards."""
    rows = 0
    busy_s = wall_s = 0.0
    for summary in summaries:
        rows += summary.rows
        busy_s += sum(summary.seconds.get(stage, 0.0) for stage in BUSY_STAGES)
        wall_s += summary.seconds["wall"]
    busy, wall = (round(rows / s, 2) if s else 0.0 for s in (busy_s, wall_s))
    return {"rows": rows, "rows_per_busy_s": busy, "rows_per_wall_s": wall}


def settings(options: argparse.Namespace, poison: bool) -> list[str]:
    """Words of the command line for one of the two runs."""
    words = [
        f"model.generate_s={options.generate_s}", f"model.output={options.output}",
        "model.batch_size=2", "thumbnail_size=0", f"item_timeout_s={options.item_timeout_s}",
        "replica_memory_mb=512", "finish_memory_mb=512", "max_failure_rate=1.0",
        f"crashes_before_isolation={options.crashes_before_isolation}",
    ]  # fmt: skip
    return words + ([f"model.poison.{kind}={options.permille}" for kind in KINDS] if poison else [])


def run_once(options: argparse.Namespace, folder: Path, name: str) -> dict[str, Any]:
    """One of the two runs, judged."""
    words = settings(options, name == "poison")
    given = {
        "system": "noop",
        "workers": options.workers,
        "shard_size": options.shard_size,
        "manifest": str(folder / "manifest.parquet"),
        "out": str(folder / name),
    }
    load_before = os.getloadavg()[0]
    seen = run_driver(given, words)
    storage = LocalStorage(folder / name)
    model = [word.removeprefix("model.") for word in words if word.startswith("model.")]
    verdict = judge(storage, load(NoopConfig, None, model))
    picked = [s for s in read_summaries(storage) if s.shard in verdict.undisturbed]
    wrong = verdict.wrong + ([] if seen["complete"] else ["the run is not complete"])
    if verdict.items != options.items:
        wrong.append(f"{verdict.items} of {options.items} items have a row")
    return {
        "wall_s": seen["engine_s"],
        "deaths": seen["deaths"],
        "repeated_rows": verdict.repeated_rows,
        "shards": seen["shards_made"],
        "undisturbed_shards": len(verdict.undisturbed),
        "undisturbed": rates(picked),
        "all_shards": rates(read_summaries(storage)),
        "counts": seen["counts"],
        "reasons": dict(verdict.reasons),
        "wrong": len(wrong),
        "wrong_examples": wrong[:20],
        "driver_peak_rss_mb": seen["peak_rss_mb"],
        "load_before": round(load_before, 2),
    }


def compare(clean: Mapping[str, Any], poison: Mapping[str, Any]) -> dict[str, Any]:
    """The two runs side by side."""
    base, rest = clean["all_shards"], poison["undisturbed"]
    busy, wall = (
        round(rest[key] / base[key], 3) if base[key] else 0.0
        for key in ("rows_per_busy_s", "rows_per_wall_s")
    )
    extra_s = poison["wall_s"] - clean["wall_s"]
    return {
        "ratio_busy": busy,
        "ratio_wall": wall,
        "target_ratio": TARGET_RATIO,
        "seconds_per_death": round(extra_s / poison["deaths"], 2) if poison["deaths"] else None,
        "passed": not (clean["wrong"] or poison["wrong"])
        and busy >= TARGET_RATIO
        and poison["wall_s"] <= LIMIT_S,
    }


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--permille", type=float, default=20, help="poison items of each kind")
    parser.add_argument("--shard-size", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", choices=("asset", "mesh"), default="asset")
    parser.add_argument("--generate-s", type=float, default=0.01)
    parser.add_argument("--item-timeout-s", type=float, default=2.0)
    parser.add_argument("--crashes-before-isolation", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    parser.add_argument("--json", action="store_true", help="write benchmarks/results")
    return parser.parse_args(words)


def main() -> int:
    """Console entry."""
    options = parse()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="geco-bench-", dir=options.folder) as folder:
        write_manifest(Path(folder) / "manifest.parquet", options.items)
        runs = {}
        for name in ("clean", "poison"):
            runs[name] = run_once(options, Path(folder), name)
            print(json.dumps({name: runs[name]}, indent=1), flush=True)
    result = {
        **{name: value for name, value in vars(options).items() if name not in ("folder", "json")},
        "kinds": KINDS,
        **compare(runs["clean"], runs["poison"]),
        **runs,
    }
    print(json.dumps(compare(runs["clean"], runs["poison"]), indent=1))
    if options.json:
        print(save_result("poison", result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
