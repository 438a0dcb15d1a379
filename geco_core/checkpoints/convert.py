"""`geco convert`: any torch checkpoint into safetensors, read in a process of its own.

The parent looks at bytes only (format, sizes, checksums, digests); the child unpickles under limits
of memory and time, first without running code of the file, and with it only when the user vouches
for the file. The result is checked, then renamed into place beside a record of what was done.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geco_core.checkpoints import child, launch
from geco_core.checkpoints.containers import Kind, inspect, verify_records
from geco_core.checkpoints.header import Header, read_header
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.checkpoints.state import digest_of
from geco_core.errors import ConfigError

DEFAULT_MEMORY_MB = 16_384
DEFAULT_TIMEOUT_S = 1_800.0
MAX_SOURCE_BYTES = 64 << 30


@dataclass(frozen=True)
class ConvertOptions:
    """How a checkpoint is converted.

    Attributes:
        trusted: run the file's pickle when it does not load without.
        key: branch to take, e.g. `state_dict`; all of them when None.
        sha256: expected hex digest of the source; empty means any.
        memory_mb: limit of the child beyond an idle interpreter.
        timeout_s: limit of the child.
        converted_at: a time to put into the record; none by default, so that converting again
            gives the same bytes.
    """

    trusted: bool = False
    key: str | None = None
    sha256: str = ""
    memory_mb: int = DEFAULT_MEMORY_MB
    timeout_s: float = DEFAULT_TIMEOUT_S
    converted_at: str = ""

    def __post_init__(self) -> None:
        if self.memory_mb < 1 or not 0 < self.timeout_s < 1e7:
            raise ConfigError(
                f"memory_mb {self.memory_mb} and timeout_s {self.timeout_s} must be positive"
            )


def convert(source: Path, out: Path, options: ConvertOptions) -> dict[str, Any]:
    """Convert a file; returns the record that also lies at `record_path(out)`.

    Raises:
        CheckpointError: the source is refused, or the result can not be written.
        ConfigError: `out` is not a .safetensors file in an existing folder.
    """
    check_out(source, out)
    kind = inspect(source, max_bytes=MAX_SOURCE_BYTES)
    before = _identity(source)
    digest = digest_of(source)
    if options.sha256 and digest != options.sha256.lower():
        raise CheckpointError(
            f"{source.name} has sha256 {digest[:12]}, expected {options.sha256[:12]}",
            refusal=Refusal.WRONG_DIGEST,
            remedy="download the file again; do not use one whose digest differs",
        )
    if kind is Kind.SAFETENSORS:
        read_header(source)
    elif kind is Kind.ZIP:
        verify_records(source)
    provenance = {"source": source.name, "source_sha256": digest, "source_format": kind.value}
    if options.converted_at:
        provenance["converted_at"] = options.converted_at
    scratch = scratch_folder(out)
    try:
        record = _run_child(source, out, kind, provenance, scratch, options)
        if _identity(source) != before:
            raise CheckpointError(
                f"{source.name} changed while it was read",
                refusal=Refusal.CHANGED,
                remedy="copy it to a place nobody writes to and convert the copy",
            )
        return _install(scratch, out, record)
    except OSError as error:
        raise not_written(out, str(error)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def record_path(out: Path) -> Path:
    """Where the record of a converted file lies."""
    return out.with_name(out.name + ".json")


def check_out(source: Path, out: Path) -> None:
    """Raise `ConfigError` unless `out` is a new .safetensors file in an existing folder."""
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out} must end in .safetensors")
    if not out.parent.is_dir():
        raise ConfigError(f"there is no folder {out.parent}", remedy="make it first")
    if out.is_dir() or (out.exists() and source.exists() and out.samefile(source)):
        raise ConfigError(f"--out {out} is a folder or the source itself", remedy="name a new file")


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def scratch_folder(out: Path) -> Path:
    """A new folder beside the output, so that the result can be renamed into place.

    Raises:
        CheckpointError: it can not be made.
    """
    try:
        return Path(tempfile.mkdtemp(prefix=f".{out.stem[:40]}-converting-", dir=out.parent))
    except OSError as error:
        raise not_written(out, str(error)) from error


def _run_child(
    source: Path,
    out: Path,
    kind: Kind,
    provenance: dict[str, Any],
    scratch: Path,
    options: ConvertOptions,
) -> dict[str, Any]:
    job = child.Job(
        source=str(source.resolve()),
        kind=kind.value,
        trusted=options.trusted,
        key=options.key,
        memory_mb=options.memory_mb,
        timeout_s=options.timeout_s,
        provenance=provenance,
    )
    (scratch / child.JOB).write_text(child.job_text(job))
    result = launch.run(scratch, source, options.timeout_s)
    if "refusal" in result:
        raise _refused(source, out, result, options)
    return result | provenance


def _refused(
    source: Path, out: Path, result: Mapping[str, Any], options: ConvertOptions
) -> CheckpointError:
    refusal, message = Refusal(result["refusal"]), str(result["message"])
    if refusal is Refusal.OUT_OF_MEMORY:
        return launch.out_of_memory(source)
    if refusal is Refusal.NOT_WRITTEN:
        return not_written(out, message)
    remedy = str(result["remedy"])
    if refusal is Refusal.PICKLE_REFUSED:
        command = ["geco", "convert", str(source), "--out", str(out)]
        command += ["--key", options.key] if options.key else []
        remedy = (
            "ask the publisher for safetensors; only if you trust them with this machine: "
            + shlex.join([*command, "--i-trust-this-file"])
        )
    return CheckpointError(message, refusal=refusal, remedy=remedy)


def not_written(out: Path, why: str) -> CheckpointError:
    """The error of an output that can not be written."""
    return CheckpointError(
        f"{out} can not be written: {why}",
        refusal=Refusal.NOT_WRITTEN,
        remedy="free some space or choose another folder for --out",
    )


def _install(scratch: Path, out: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Check the child's file, then rename it and its record into place."""
    made = scratch / child.TENSORS
    header: Header = read_header(made)
    if len(header.tensors) != record.get("tensors"):
        raise CheckpointError(
            "the child's file and its record disagree",
            refusal=Refusal.CRASHED,
            remedy="do not use this file; ask its publisher for safetensors",
        )
    record["sha256"] = digest_of(made)
    described = scratch / "record.json"
    described.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    made.replace(out)
    described.replace(record_path(out))
    return record
