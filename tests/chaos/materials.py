"""What trials work on: manifests, settings, and the undisturbed runs they are compared with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from infra.storage import LocalStorage
from tests.chaos.kills import ROOT, generate_line
from tests.chaos.verdict import Expected, expectations
from workflows.demo import write_demo_manifest

POISON = ("segfault", "hang", "memory", "exception")  # items of the manifest
FAULTS = {
    "segfault": ("segfault", {"crashed"}),
    "hang": ("hang", {"timed_out"}),
    "memory": ("oom", {"out_of_memory"}),
    "exception": ("generate", {"generation_failed"}),
}
ITEM_S = 0.06
SHARD_SIZE = 4
POISON_ITEMS = 64
COMMON = ("--workers", "2", f"shard_size={SHARD_SIZE}")
# A replica that is killed from outside is no proof against the row that happened to run.
PATIENT = ("crashes_before_isolation=1000",)
IMPATIENT = (
    "crashes_before_isolation=1",
    "item_timeout_s=5",
    "batch_size=2",
    "replica_memory_mb=3000",
    "max_failure_rate=1",
)


@dataclass(frozen=True)
class Material:
    """What every trial of a sort works on: a manifest, settings, and how each item must end."""

    manifest: Path
    words: tuple[str, ...]
    expected: Callable[[], Mapping[str, Expected]]


@dataclass
class Reference:
    """An undisturbed run in one process, in the background; `also` are items it leaves out."""

    process: subprocess.Popen[bytes]
    out: Path
    log: Path
    also: Mapping[str, Expected]
    known: dict[str, Expected] = field(default_factory=dict)

    def expected(self) -> Mapping[str, Expected]:
        """How every item must end; waits for the run."""
        if not self.known:
            if self.process.wait() != 0:
                raise RuntimeError(f"the undisturbed run failed: {self.log.read_text()[-2000:]}")
            self.known = expectations(LocalStorage(self.out)) | dict(self.also)
        return self.known


def healthy_material(folder: Path, system: str, items: int, more: Sequence[str]) -> Material:
    """A manifest of sound items; `more` are settings."""
    if system == "noop":
        manifest = write_manifest(folder / "healthy.parquet", item_ids(items))
        pace: tuple[str, ...] = (f"model.generate_s={ITEM_S}", "thumbnail_size=0")
    else:
        manifest = write_demo_manifest(folder, items, image_size=64)
        pace = ()
    words = ("--system", system, *COMMON, *pace, *more)
    reference = _start_reference(manifest, folder / "healthy", words, {})
    return Material(manifest, (*words, *PATIENT), reference.expected)


def poisoned_material(kinds: Sequence[str], folder: Path) -> Material:
    """A manifest with one item of each fault, and its undisturbed run, which leaves them out."""
    ids = item_ids(POISON_ITEMS)
    step = POISON_ITEMS // len(kinds)
    bad = {ids[k * step + 5]: FAULTS[kind] for k, kind in enumerate(kinds)}
    faults = tuple(f"model.faults.{item}={fault}" for item, (fault, _) in bad.items())
    words = ("--system", "noop", *COMMON, "model.generate_s=0.02", "thumbnail_size=0", *faults)
    also = {item: Expected("failed", frozenset(reasons)) for item, (_, reasons) in bad.items()}
    manifest = write_manifest(folder / "poisoned.parquet", ids)
    sound = write_manifest(folder / "sound.parquet", [item for item in ids if item not in bad])
    reference = _start_reference(sound, folder / "poisoned", words, also)
    return Material(manifest, (*words, *IMPATIENT), reference.expected)


def _start_reference(
    manifest: Path, out: Path, words: Sequence[str], also: Mapping[str, Expected]
) -> Reference:
    log = out.with_suffix(".log")
    line = generate_line(manifest, str(out), *words, "--engine", "inline")
    with log.open("ab") as file:
        process = subprocess.Popen(line, cwd=ROOT, stdout=file, stderr=file)
    return Reference(process, out, log, also)


def item_ids(number: int) -> list[str]:
    """`i000000` ..."""
    return [f"i{k:06d}" for k in range(number)]


def write_manifest(path: Path, ids: Sequence[str]) -> Path:
    """A manifest of prompts."""
    table = pa.table({"item_id": list(ids), "prompt": [f"box {i}" for i in ids]})
    pq.write_table(table, path)
    return path
