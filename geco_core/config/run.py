"""Configuration of a run.

What to make is pinned in `run.json`; how to execute it is free to change on resume.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geco_core.config.load import to_dict


@dataclass(frozen=True)
class ColumnsConfig:
    """Which manifest columns hold what.

    None looks for the usual name: `id` or `item_id`, `image`, `prompt`, `seed`.
    """

    item_id: str | None = None
    image: str | None = None
    prompt: str | None = None
    seed: str | None = None


@dataclass(frozen=True)
class ClusterConfig:
    """Where Ray runs.

    Without `address` a private one-machine cluster lives and dies with the command.

    `num_gpus` None lets Ray detect; the object store holds no meshes, so 200 MB is plenty.
    `temp_dir` None means a private folder under the system's temporary one. `start_timeout_s`
    limits the wait for Ray itself.
    """

    address: str | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    object_store_mb: int = 200
    temp_dir: str | None = None
    dashboard: bool = False
    start_timeout_s: float = 180.0

    def __post_init__(self) -> None:
        if self.start_timeout_s <= 0:
            raise ValueError(f"start_timeout_s must be positive, got {self.start_timeout_s}")
        if self.object_store_mb <= 0:
            raise ValueError(f"object_store_mb must be positive, got {self.object_store_mb}")


@dataclass(frozen=True)
class RunConfig:
    """Everything a run reads.

    `system` ... `thumbnail_size` decide the rows and are pinned; the rest decides speed and
    patience and may differ from one resume to the next. `model` holds overrides of the system's own
    configuration (`model.sampler.steps=8`).

    Attributes:
        shard_size: manifest rows per shard; a shard should be 2-5 minutes of device time.
        engine: `ray`, or `inline`: everything in this process, one shard after the other.
        workers: replicas to ask for; None means one per GPU, or without GPUs at most two, as cores
            and memory allow.
        num_gpus_per_replica: GPU share of a replica, a fraction of one or a whole number; None
            means 1 where there are GPUs, else 0.
        batch_size: items per `generate` call; None means the system's own.
        prepare_threads: threads per replica that fetch and prepare items.
        threads_per_replica: OpenMP and torch threads of a replica.
        item_timeout_s: longest time one item may take in any stage before its process is ended.
        start_timeout_s: longest time a replica may take to load.
        max_failure_rate: the run stops when more than this share of its first 200 items fail, and
            exits with 1 when more than this share of all items failed.
        crashes_before_isolation: a shard whose process died this often is replayed row by row.
        max_source_bytes: refuse source files above this size.
        thumbnail_size: side of the preview in pixels; 0 for none.
    """

    system: str = "instantmesh"
    preset: str = "micro"
    manifest: str = ""
    out: str = ""
    seed: int = 0
    shard_size: int = 64
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    model: dict[str, Any] = field(default_factory=dict)
    thumbnail_size: int = 128

    engine: Literal["ray", "inline"] = "ray"
    workers: int | None = None
    num_gpus_per_replica: float | None = None
    batch_size: int | None = None
    prepare_threads: int = 1
    threads_per_replica: int = 1
    item_timeout_s: float = 600.0
    start_timeout_s: float = 900.0
    max_failure_rate: float = 0.05
    crashes_before_isolation: int = 3
    max_source_bytes: int = 256 * 2**20
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        positive = {
            "shard_size": self.shard_size,
            "prepare_threads": self.prepare_threads,
            "threads_per_replica": self.threads_per_replica,
            "item_timeout_s": self.item_timeout_s,
            "start_timeout_s": self.start_timeout_s,
            "crashes_before_isolation": self.crashes_before_isolation,
            "max_source_bytes": self.max_source_bytes,
            "workers": 1 if self.workers is None else self.workers,
            "batch_size": 1 if self.batch_size is None else self.batch_size,
        }
        for name, value in positive.items():
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        share = self.num_gpus_per_replica
        if share is not None and (share < 0 or (share > 1 and share != int(share))):
            raise ValueError(f"num_gpus_per_replica must be at most 1 or whole, got {share}")
        if self.thumbnail_size < 0:
            raise ValueError(f"thumbnail_size must not be negative, got {self.thumbnail_size}")
        if not 0.0 <= self.max_failure_rate <= 1.0:
            raise ValueError(
                f"max_failure_rate must be within 0 and 1, got {self.max_failure_rate}"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be within 0 and 2**63 - 1, got {self.seed}")


PINNED = ("system", "preset", "seed", "shard_size", "columns", "model", "thumbnail_size")


def pinned(config: RunConfig) -> dict[str, Any]:
    """The part of the configuration that decides the rows, as plain data."""
    plain = to_dict(config)
    return {key: plain[key] for key in PINNED}


def model_overrides(model: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`{"sampler": {"steps": 8}}` -> `["sampler.steps=8"]`: the form a system builder takes."""
    lines: list[str] = []
    for key, value in model.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            lines += model_overrides(value, f"{name}.")
        else:
            lines.append(f"{name}={json.dumps(value)}")
    return lines
