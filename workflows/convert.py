"""`geco convert`: checkpoints into safetensors, and what was done, as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geco_core.checkpoints.convert import ConvertOptions, convert, record_path
from geco_core.checkpoints.convert_family import convert_family
from geco_core.config.load import load
from geco_core.config.run import RunConfig, model_overrides
from geco_core.systems import chain_config, describe_system
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


def run_convert_family(
    source: str,
    out: str,
    family: str,
    *,
    white_unet: str = "",
    config: str | None = None,
    sha256: str = "",
) -> str:
    """Convert published weights to one file under our names and say what became of every key.

    Args:
        source: file, folder or hub reference of the weights.
        out: the .safetensors file to write; the report goes to `<out>.json`.
        family: one of `geco_core.checkpoints.families.FAMILIES`.
        white_unet: reference of the U-Net that replaces a pipeline's own.
        config: settings file of a run whose models have the sizes; the published ones when None.
        sha256: expected digest of the source; of a pipeline: see `convert_family`.

    Raises:
        ConfigError: unknown family, sizes of another system, or `out` is unusable.
        Fatal: the weights are missing, damaged, or not of this family.
    """
    sizes = None
    if config is not None:
        run = load(RunConfig, config)
        words = model_overrides(run.model)
        sizes = chain_config(run.system, describe_system(run.system, run.preset, words))
    record = convert_family(source, Path(out), family, sizes, white_unet=white_unet, sha256=sha256)
    lines = [_described_part(part) for part in record["parts"]]
    lines += [f"licences {', '.join(record['licences'])}", *_ending(record, Path(out))]
    return "\n".join(lines) + "\n"


def _described_part(part: dict[str, Any]) -> str:
    """One line on a part: counts, and the first of what is not as published."""
    text = f"{part['part']}: {counted(part['loaded'], 'tensor')}"
    for word in ("renamed", "dropped", "missing"):
        names = list(part[word])
        first = f" ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})" if names else ""
        text += f", {len(names)} {word}{first}"
    return text


def _summary(record: dict[str, Any], out: Path) -> str:
    lines = _ending(record, out)
    lines.insert(2, f"source  {record['source_sha256']}")
    if record["pickle_trusted"]:
        lines.insert(0, "the file's own code was run, because you vouched for it")
    if record["dropped"]:
        shown = ", ".join(record["dropped"][:5])
        more = ", ..." if len(record["dropped"]) > 5 else ""
        lines.append(f"dropped {len(record['dropped'])}: {shown}{more}")
    return "\n".join(lines) + "\n"


def _ending(record: dict[str, Any], out: Path) -> list[str]:
    """What every conversion says of the file that it wrote."""
    dtypes = ", ".join(f"{name} {count}" for name, count in record["dtypes"].items())
    lines = [
        f"{counted(record['tensors'], 'tensor')} ({dtypes}), {record['bytes']:,} bytes",
        f"sha256  {record['sha256']}",
        f"wrote   {out}",
        f"record  {record_path(out)}",
    ]
    if record["non_finite"]:
        first = next(iter(record["non_finite"]))
        lines.append(
            f"note    {counted(len(record['non_finite']), 'tensor')} with NaN or infinite values, "
            f"first {first}"
        )
    return lines
