"""`geco convert`: a torch checkpoint into safetensors, and what was done, as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geco_core.checkpoints.convert import ConvertOptions, convert, record_path
from workflows.words import counted


def run_convert(
    source: str,
    out: str,
    *,
    trusted: bool,
    key: str | None,
    memory_mb: int,
    timeout_s: float,
    sha256: str = "",
) -> str:
    """Convert a file and say what was kept, dropped and noticed.

    Args:
        source: a .ckpt, .pt, .pth, .bin or .safetensors file.
        out: the .safetensors file to write; its record goes to `<out>.json`.
        trusted: run the file's pickle if it does not load without (`--i-trust-this-file`).
        key: branch of the checkpoint to take, e.g. `state_dict`.
        memory_mb: limit of the reading process, in MiB.
        timeout_s: limit of the reading process, in seconds.
        sha256: expected digest of the source; empty means any.

    Raises:
        CheckpointError: the source is refused.
        ConfigError: `out` is unusable.
    """
    options = ConvertOptions(
        trusted=trusted, key=key, sha256=sha256, memory_mb=memory_mb, timeout_s=timeout_s
    )
    record = convert(Path(source), Path(out), options)
    return _summary(record, Path(out))


def _summary(record: dict[str, Any], out: Path) -> str:
    dtypes = ", ".join(f"{name} {count}" for name, count in record["dtypes"].items())
    lines = [
        f"{counted(record['tensors'], 'tensor')} ({dtypes}), {record['bytes']:,} bytes",
        f"sha256  {record['sha256']}",
        f"source  {record['source_sha256']}",
        f"wrote   {out}",
        f"record  {record_path(out)}",
    ]
    if record["pickle_trusted"]:
        lines.insert(0, "the file's own code was run, because you vouched for it")
    if record["dropped"]:
        shown = ", ".join(record["dropped"][:5])
        more = ", ..." if len(record["dropped"]) > 5 else ""
        lines.append(f"dropped {len(record['dropped'])}: {shown}{more}")
    if record["non_finite"]:
        first = next(iter(record["non_finite"]))
        lines.append(
            f"note    {counted(len(record['non_finite']), 'tensor')} with NaN or infinite values, "
            f"first {first}"
        )
    return "\n".join(lines) + "\n"
