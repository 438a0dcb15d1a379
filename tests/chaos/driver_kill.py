"""Kill -9 the driver of `geco generate` again and again, then count: every item once, every byte
the same.

    python -m tests.chaos.driver_kill --items 300 --kills 5
    python -m tests.chaos.driver_kill --items 300 --kills 5 --system instantmesh

Prints one JSON object and exits with 1 when anything is lost, doubled, different, or left running.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from infra.run_state import done_shards
from infra.storage import LocalStorage
from workflows.demo import write_demo_manifest

ROOT = Path(__file__).parents[2]
REPLICAS_GONE_WITHIN_S = 30.0
ALL_GONE_WITHIN_S = 150.0  # Ray's agents give up a minute after the node they served
FIRST_COMMIT_WITHIN_S = 300.0
STARTUP_KILLS = 0.2


@dataclass
class Verdict:
    """What the kills did. Good when nothing outlived, was lost, doubled or different."""

    items: int
    kills: int = 0
    done_at_kill: list[int] = field(default_factory=list)
    seconds_to_first_commit: list[float] = field(default_factory=list)
    replicas_outliving: int = 0
    left_running: int = 0
    torn_files: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    exit_code: int = 0

    @property
    def good(self) -> bool:
        bad = self.lost + self.doubled + self.different
        bad += self.left_running + self.replicas_outliving
        return bad == 0 and self.exit_code == 0


def write_manifest(folder: Path, items: int) -> Path:
    """A manifest of prompts, ids `i000000` ..."""
    path = folder / "manifest.parquet"
    ids = [f"i{k:06d}" for k in range(items)]
    pq.write_table(pa.table({"item_id": ids, "prompt": [f"box {i}" for i in ids]}), path)
    return path


def write_image_manifest(folder: Path, items: int) -> Path:
    """A manifest of held-out condition images."""
    return write_demo_manifest(folder, items, image_size=64)


def command(manifest: Path, out: Path, *words: str) -> list[str]:
    """The `geco generate` command line."""
    verb = [sys.executable, "-m", "workflows.cli", "generate"]
    return [*verb, "--manifest", str(manifest), "--out", str(out), *words]


def kill_at_random(
    line: Sequence[str], out: Path, rng: random.Random, verdict: Verdict, startup_kills: float
) -> list[psutil.Process]:
    """Start the command, kill its driver alone at a random moment; returns what it had started."""
    before = len(done_shards(LocalStorage(out)))
    begun = time.monotonic()
    with (out.parent / "driver.log").open("ab") as log:
        driver = subprocess.Popen(line, cwd=ROOT, stdout=log, stderr=log)
    if rng.random() < startup_kills:
        time.sleep(rng.uniform(0.2, 6.0))
    else:
        while len(done_shards(LocalStorage(out))) == before and driver.poll() is None:
            if time.monotonic() - begun > FIRST_COMMIT_WITHIN_S:
                break
            time.sleep(0.02)
        verdict.seconds_to_first_commit.append(round(time.monotonic() - begun, 2))
        time.sleep(rng.uniform(0.0, 1.0))
    children = psutil.Process(driver.pid).children(recursive=True) if driver.poll() is None else []
    replicas = [child for child in children if _is_replica(child)]
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    verdict.kills += driver.returncode == -signal.SIGKILL
    verdict.done_at_kill.append(len(done_shards(LocalStorage(out))))
    _, alive = psutil.wait_procs(replicas, timeout=REPLICAS_GONE_WITHIN_S)
    verdict.replicas_outliving += len(alive)
    verdict.torn_files += sum(1 for _ in out.rglob(".tmp-*"))
    return children


def _is_replica(process: psutil.Process) -> bool:
    try:
        return "Replica" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def judge(out: Path, reference: Path, verdict: Verdict) -> None:
    """Compare the rows of a finished run with those of an uninterrupted one."""
    rows = [row for path in sorted((out / "assets").glob("part-*")) for row in _rows(path)]
    expected = dict(
        row for path in sorted((reference / "assets").glob("part-*")) for row in _rows(path)
    )
    made = dict(rows)
    verdict.lost = len(expected.keys() - made.keys())
    verdict.doubled = len(rows) - len(made)
    verdict.different = sum(made[i] != digest for i, digest in expected.items() if i in made)


def _rows(path: Path) -> list[tuple[str, str]]:
    table = pq.read_table(path, columns=["item_id", "glb_sha256"])
    return list(zip(*(table.column(c).to_pylist() for c in ("item_id", "glb_sha256")), strict=True))


def trial(
    folder: Path,
    items: int,
    kills: int,
    seed: int,
    words: Sequence[str],
    *,
    startup_kills: float = STARTUP_KILLS,
    wait_for_agents: bool = True,
    manifest_of: Callable[[Path, int], Path] = write_manifest,
) -> Verdict:
    """The whole experiment in `folder`.

    Args:
        items: rows of the manifest.
        kills: how often the driver is killed before it may finish.
        seed: of the moments.
        words: more arguments of `geco generate`.
        startup_kills: share of the kills that come before the first commit.
        wait_for_agents: also wait for Ray's own agents, which outlive their node by a minute.
        manifest_of: writes the manifest of a number of rows into a folder.
    """
    rng = random.Random(seed)
    manifest = manifest_of(folder, items)
    verdict = Verdict(items)
    out, reference = folder / "killed", folder / "reference"
    line = command(manifest, out, *words)
    started: list[psutil.Process] = []
    for _ in range(kills):
        started += kill_at_random(line, out, rng, verdict, startup_kills)
    with (folder / "driver.log").open("ab") as log:
        ended = subprocess.run(line, cwd=ROOT, stdout=log, stderr=log, check=False)
        verdict.exit_code = ended.returncode
        straight = command(manifest, reference, *words, "--engine", "inline")
        subprocess.run(straight, cwd=ROOT, stdout=log, stderr=log, check=True)
    judge(out, reference, verdict)
    if wait_for_agents:
        _, alive = psutil.wait_procs(started, timeout=ALL_GONE_WITHIN_S)
        verdict.left_running = len(alive)
    return verdict


def main() -> int:
    """Console entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--system", choices=("noop", "instantmesh"), default="noop")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shard-size", type=int, default=8)
    parser.add_argument("words", nargs="*", help="more settings, e.g. model.generate_s=0.1")
    options = parser.parse_args()
    noop = options.system == "noop"
    settings = options.words or (["model.generate_s=0.1", "thumbnail_size=0"] if noop else [])
    words = ["--system", options.system, "--workers", str(options.workers)]
    words += [f"shard_size={options.shard_size}", *settings]
    manifest_of = write_manifest if noop else write_image_manifest
    with tempfile.TemporaryDirectory(prefix="geco-chaos-") as folder:
        verdict = trial(
            Path(folder),
            options.items,
            options.kills,
            options.seed,
            words,
            manifest_of=manifest_of,
        )
    sys.stdout.write(json.dumps(asdict(verdict), indent=1) + "\n")
    return 0 if verdict.good else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
