"""The process that `geco convert` starts to read one untrusted checkpoint.

Started as `python -m geco_core.checkpoints.child FOLDER` with almost no environment. It takes
`job.json` from the folder and leaves `tensors.safetensors` and `result.json` there; the parent
trusts neither and checks both.
"""

from __future__ import annotations

import dataclasses
import json
import math
import resource
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from geco_core.checkpoints import legacy
from geco_core.checkpoints.containers import Kind
from geco_core.checkpoints.flatten import flatten
from geco_core.checkpoints.header import MAX_HEADER_BYTES, read_header
from geco_core.checkpoints.quantised import dequantise, is_quantised
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.checkpoints.writer import write_safetensors

JOB, RESULT, TENSORS = "job.json", "result.json", "tensors.safetensors"
RECORD_KEY = "geco_convert"
# Views that share storage are written in full: this much growth is honest, more is a bomb.
_GROWTH, _SLACK_BYTES = 8, 64 << 20


@dataclass(frozen=True)
class Job:
    """What the child is asked to do; every field is plain JSON."""

    source: str
    kind: str
    trusted: bool
    key: str | None
    memory_mb: int
    timeout_s: float
    provenance: dict[str, Any]


def main(folder: Path) -> int:
    """Run the job of a folder; 0 when `result.json` says how it went."""
    job = Job(**json.loads((folder / JOB).read_text()))
    _limit(job)
    try:
        result = execute(job, folder / TENSORS)
    except CheckpointError as error:
        result = {
            "refusal": error.refusal.value,
            "message": error.message,
            "remedy": error.remedy,
        }
    except MemoryError:
        result = {"refusal": Refusal.OUT_OF_MEMORY.value, "message": "", "remedy": ""}
    except OSError as error:
        result = {"refusal": Refusal.NOT_WRITTEN.value, "message": str(error), "remedy": ""}
    (folder / RESULT).write_text(json.dumps(result))
    return 0


def execute(job: Job, out: Path) -> dict[str, Any]:
    """Read the source and write `out`; returns the record of what was done.

    Raises:
        CheckpointError: the source is refused.
        MemoryError: the limit was met.
    """
    source = Path(job.source)
    loaded, ran_pickle = _read(source, Kind(job.kind), trusted=job.trusted)
    flat = flatten(loaded, job.key)
    size = sum(t.numel() * t.element_size() for t in flat.tensors.values())
    if size > _largest_output(source):
        raise CheckpointError(
            f"{source.name} has {source.stat().st_size:,} bytes and would become {size:,}",
            refusal=Refusal.BOMB,
            remedy="do not use this file; ask its publisher",
        )
    dtypes = Counter(str(t.dtype).removeprefix("torch.") for t in flat.tensors.values())
    record = {
        **job.provenance,
        "key": job.key,
        "tensors": len(flat.tensors),
        "bytes": size,
        "dtypes": dict(sorted(dtypes.items())),
        "shared": _shared(flat.tensors),
        "dropped": list(flat.dropped),
        "pickle_trusted": ran_pickle,
        "torch": str(torch.__version__),
    }
    texts = {"format": "pt", RECORD_KEY: json.dumps(record, sort_keys=True)}
    record["non_finite"] = write_safetensors(out, flat.tensors, texts)
    return record


def _read(source: Path, kind: Kind, *, trusted: bool) -> tuple[Any, bool]:
    """The loaded object, and whether the file's own code ran."""
    if kind is Kind.SAFETENSORS:
        tensors, texts = load_file(source), read_header(source).metadata
        if is_quantised(texts):
            tensors = dequantise(tensors, texts, source.name)
        return tensors, False
    try:
        return legacy.load_tensors(source), False
    except CheckpointError as error:
        if error.refusal is not Refusal.PICKLE_REFUSED or not trusted:
            raise
    return legacy.load_trusted(source), True


def _shared(tensors: dict[str, Tensor]) -> int:
    """Number of tensors whose storage another one already had."""
    storages = {t.untyped_storage().data_ptr() for t in tensors.values() if t.numel()}
    return sum(1 for t in tensors.values() if t.numel()) - len(storages)


def _largest_output(source: Path) -> int:
    return _GROWTH * source.stat().st_size + _SLACK_BYTES


def _limit(job: Job) -> None:
    """Bound memory beyond what the interpreter holds now, time, file sizes and core dumps."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (job.memory_mb << 20)
    seconds = math.ceil(job.timeout_s) + 5
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    largest = _largest_output(Path(job.source)) + MAX_HEADER_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ends the child also when the parent is no longer there to do it.
    signal.alarm(seconds)


def job_text(job: Job) -> str:
    """The job as JSON."""
    return json.dumps(dataclasses.asdict(job))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
