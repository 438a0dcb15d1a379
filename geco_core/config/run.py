"""Configuration of a run.

What to make is pinned in `run.json`; how to execute it is free to change on resume.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geco_core.config.finish import FinishConfig
from geco_core.config.load import to_dict

SOURCE_SCHEMES = ("file", "s3", "https", "http")


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
class S3Config:
    """How `s3://` stores are reached. Credentials come from the standard environment, never here.

    Attributes:
        endpoint_url: of an S3-compatible server; None takes AWS_ENDPOINT_URL_S3, then AWS.
        region: None takes AWS_REGION or AWS_DEFAULT_REGION, then us-east-1.
        path_style: bucket in the path instead of the host name; None does so where there is an
            endpoint.
        max_attempts: tries per request, with adaptive backoff, before the error is ours.
        connect_timeout_s: for the connection.
        read_timeout_s: between two bytes of an answer.
    """

    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    max_attempts: int = 5
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        _check_positive(
            max_attempts=self.max_attempts,
            connect_timeout_s=self.connect_timeout_s,
            read_timeout_s=self.read_timeout_s,
        )


@dataclass(frozen=True)
class FetchConfig:
    """Where the sources of items may come from.

    Attributes:
        schemes: of `file` (also plain paths), `s3`, `https` and `http`; the last two are off
            unless listed.
        allow_hosts: hosts that http and https may reach (`images.example.org`, `*.example.org`);
            empty means every public address.
        roots: folders that local sources may lie in, besides the manifest's own.
        timeout_s: for one source as a whole.
        connect_timeout_s: for each connection.
        max_redirects: followed per source, each checked like the first address.
        http_ports: ports that may be dialled.
    """

    schemes: tuple[str, ...] = ("file", "s3")
    allow_hosts: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    max_redirects: int = 5
    http_ports: tuple[int, ...] = (80, 443)

    def __post_init__(self) -> None:
        _check_positive(timeout_s=self.timeout_s, connect_timeout_s=self.connect_timeout_s)
        for scheme in self.schemes:
            if scheme not in SOURCE_SCHEMES:
                raise ValueError(f"scheme {scheme!r} is none of {', '.join(SOURCE_SCHEMES)}")
        if self.max_redirects < 0:
            raise ValueError(f"max_redirects must not be negative, got {self.max_redirects}")


@dataclass(frozen=True)
class StageTimeouts:
    """Longest time one item may take in a stage, in seconds; None: `item_timeout_s`."""

    fetch: float | None = None
    prepare: float | None = None
    generate: float | None = None
    finish: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        _check_positive(**given)


@dataclass(frozen=True)
class RunConfig:
    """Everything a run reads.

    `system` ... `finish` decide the rows and are pinned; the rest decides speed and
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
        item_timeout_s: longest time one item may take, all stages together, before its process is
            ended.
        stage_timeout_s: tighter limits for single stages.
        start_timeout_s: longest time a replica may take to load.
        max_failure_rate: the run stops when more than this share of its first 200 items fail, and
            exits with 1 when more than this share of all items failed.
        crashes_before_isolation: a shard whose process died this often is replayed row by row.
        max_source_bytes: refuse source files above this size.
        fetch: where sources may come from.
        s3: how `s3://` stores are reached.
        save_every_s: finished rows of a shard are saved this often, so that a death of the process
            costs at most this much work per shard.
        drain_timeout_s: after SIGTERM or SIGINT, how long shards in flight may take to finish or
            to save their rows.
        replica_memory_mb: memory one worker process may allocate; None for no limit of our own.
        finish_isolation: `child` finishes meshes in a child process with limits, `inline` in the
            worker itself.
        finish_memory_mb: memory the child process may allocate.
        thumbnail_size: side of the preview in pixels; 0 for none.
        finish: steps that change a mesh before it is written.
        targets_store: where the `targets` system keeps what it made by content, shared by any runs;
            empty takes what the run started with, else the run folder.
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
    finish: FinishConfig = field(default_factory=FinishConfig)

    engine: Literal["ray", "inline"] = "ray"
    workers: int | None = None
    num_gpus_per_replica: float | None = None
    batch_size: int | None = None
    prepare_threads: int = 1
    threads_per_replica: int = 1
    item_timeout_s: float = 600.0
    stage_timeout_s: StageTimeouts = field(default_factory=StageTimeouts)
    start_timeout_s: float = 900.0
    max_failure_rate: float = 0.05
    crashes_before_isolation: int = 1
    max_source_bytes: int = 256 * 2**20
    fetch: FetchConfig = field(default_factory=FetchConfig)
    s3: S3Config = field(default_factory=S3Config)
    save_every_s: float = 30.0
    drain_timeout_s: float = 60.0
    replica_memory_mb: int | None = None
    finish_isolation: Literal["child", "inline"] = "child"
    finish_memory_mb: int = 4096
    targets_store: str = ""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        _check_positive(
            shard_size=self.shard_size,
            prepare_threads=self.prepare_threads,
            threads_per_replica=self.threads_per_replica,
            item_timeout_s=self.item_timeout_s,
            start_timeout_s=self.start_timeout_s,
            crashes_before_isolation=self.crashes_before_isolation,
            max_source_bytes=self.max_source_bytes,
            save_every_s=self.save_every_s,
            finish_memory_mb=self.finish_memory_mb,
            replica_memory_mb=1 if self.replica_memory_mb is None else self.replica_memory_mb,
            workers=1 if self.workers is None else self.workers,
            batch_size=1 if self.batch_size is None else self.batch_size,
        )
        if self.drain_timeout_s < 0:
            raise ValueError(f"drain_timeout_s must not be negative, got {self.drain_timeout_s}")
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


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name} must be positive, got {value}")


PINNED = ("system", "preset", "seed", "shard_size", "columns", "model", "thumbnail_size", "finish")


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
