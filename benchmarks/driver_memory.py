"""What a million rows cost the driver: peak memory, time to the first commit, seconds per 100k
rows.

    python -m benchmarks.driver_memory --rows 1000000

The driver is a child process whose resident memory is sampled; the noop system makes one box per
row. `--stop-after-s` ends the run once the rate is known: resuming is free, and so is stopping.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import print_machine, save_result
from infra.run_state import done_shards
from infra.storage import LocalStorage

LIMIT_MB = 500
CHUNK = 100_000


def write_manifest(path: Path, rows: int) -> None:
    """Ids and prompts, in row groups of 100k."""
    schema = pa.schema([("item_id", pa.string()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, CHUNK):
            numbers = np.arange(first, min(rows, first + CHUNK)).astype(str)
            ids = pa.array(np.char.add("item-", numbers))
            writer.write_table(pa.Table.from_arrays([ids, ids], schema=schema))


def watch(command: list[str], out: Path, stop_after_s: float) -> dict[str, float]:
    """Run the driver; sample its memory and the commits until it ends or the time is over."""
    begun = time.monotonic()
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    process, peak_b, first_commit_s, seen = psutil.Process(driver.pid), 0, 0.0, 0
    while driver.poll() is None:
        try:
            peak_b = max(peak_b, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        elapsed = time.monotonic() - begun
        seen = len(done_shards(LocalStorage(out)))
        if seen and not first_commit_s:
            first_commit_s = elapsed
        if elapsed > stop_after_s:
            driver.send_signal(signal.SIGINT)
            driver.wait(timeout=120)
        time.sleep(0.2)
    return {
        "peak_rss_mb": round(peak_b / 1e6, 1),
        "first_commit_s": round(first_commit_s, 1),
        "wall_s": round(time.monotonic() - begun, 1),
        "shards_done": seen,
        "exit_code": driver.returncode,
    }


def main() -> int:
    """Console entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shard-size", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stop-after-s", type=float, default=600.0)
    parser.add_argument("--json", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="geco-bench-") as folder:
        manifest, out = Path(folder) / "manifest.parquet", Path(folder) / "run"
        write_manifest(manifest, options.rows)
        command = [
            sys.executable, "-m", "workflows.cli", "generate", "--system", "noop",
            "--manifest", str(manifest), "--out", str(out), "--workers", str(options.workers),
            f"shard_size={options.shard_size}", "thumbnail_size=0", "model.batch_size=64",
        ]  # fmt: skip
        measured = watch(command, out, options.stop_after_s)
    made = min(options.rows, int(measured["shards_done"]) * options.shard_size)
    making_s = measured["wall_s"] - measured["first_commit_s"]
    result = {
        "rows": options.rows,
        "shard_size": options.shard_size,
        "workers": options.workers,
        **measured,
        "rows_made": made,
        "seconds_per_100k_rows": round(making_s / made * 100_000, 1) if made else None,
        "limit_mb": LIMIT_MB,
    }
    print(json.dumps(result, indent=1))
    if options.json:
        print(save_result("driver_memory", result))
    return 0 if 0 < measured["peak_rss_mb"] < LIMIT_MB and made else 1


if __name__ == "__main__":
    sys.exit(main())
