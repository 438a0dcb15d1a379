"""What a shard is run with and what it is asked: the nouns of `run_shard`."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from actors.watchdog import NoWatchdog, Watchdog
from geco_core.config.finish import FinishConfig
from geco_core.config.run import FetchConfig, RunConfig, S3Config, StageTimeouts
from geco_core.errors import Reason
from geco_core.types import Asset, Mesh, Shard, System
from infra.attempts import Attempts
from infra.dataset import RowContext
from infra.fetch import fetch
from infra.rows import RowReader
from infra.storage import Storage


class Abandoned(Exception):
    """A shard was given up on request; its finished rows are saved.

    Attributes:
        shard: its index.
        rows_saved: rows that need not be made again.
    """

    def __init__(self, shard: int, rows_saved: int) -> None:
        super().__init__(f"shard {shard} was given up with {rows_saved} rows saved")
        self.shard = shard
        self.rows_saved = rows_saved

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes."""
        return (Abandoned, (self.shard, self.rows_saved))


class Finish(Protocol):
    """`geco_core.mesh.finish.finish_mesh`, here or in a child process (`actors.finishing`)."""

    def __call__(
        self,
        mesh: Mesh,
        *,
        item_id: str,
        seed: int,
        provenance: Mapping[str, Any],
        thumbnail_size: int = ...,
        source_sha256: str = ...,
    ) -> Asset:
        """Check, clean, measure, draw and write one mesh. Raises `BadItem`."""
        ...


class Fetch(Protocol):
    """`infra.fetch.Fetcher`."""

    def fetch(self, source: str, item_id: str | None = None) -> bytes:
        """The bytes of a path or URI. Raises `BadItem`, `Retryable`."""
        ...


class LocalFetch:
    """Reads every local path: for runs whose manifest is trusted."""

    def __init__(self, max_bytes: int) -> None:
        """Args: max_bytes: largest source."""
        self._max_bytes = max_bytes

    def fetch(self, source: str, item_id: str | None = None) -> bytes:
        """See `Fetch.fetch`."""
        return fetch(source, max_bytes=self._max_bytes, item_id=item_id)


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs to know of the run configuration; see `RunConfig` for the meanings."""

    run_seed: int
    batch_size: int | None = None
    prepare_threads: int = 1
    item_timeout_s: float = 600.0
    stage_timeout_s: StageTimeouts = field(default_factory=StageTimeouts)
    max_source_bytes: int = 256 * 2**20
    thumbnail_size: int = 128
    finish: FinishConfig = field(default_factory=FinishConfig)
    save_every_s: float = 30.0
    replica_memory_mb: int | None = None
    finish_isolation: str = "inline"
    finish_memory_mb: int = 4096
    fetch: FetchConfig = field(default_factory=FetchConfig)
    s3: S3Config = field(default_factory=S3Config)

    def stage_limit_s(self, stage: str) -> float:
        """Longest time an item may take in a stage, whatever it took before."""
        limit = getattr(self.stage_timeout_s, stage)
        return self.item_timeout_s if limit is None else min(limit, self.item_timeout_s)

    def shortest_limit_s(self, *stages: str) -> float:
        """The earliest time after which an item in these stages may lose its process for it."""
        return min(self.stage_limit_s(stage) for stage in stages)

    @property
    def deadly_limit_s(self) -> float:
        """The same for an item whose stage is not known."""
        return self.shortest_limit_s("fetch", "prepare", "generate")


def worker_settings(config: RunConfig) -> WorkerSettings:
    """The settings of a run's workers."""
    return WorkerSettings(
        run_seed=config.seed,
        batch_size=config.batch_size,
        prepare_threads=config.prepare_threads,
        item_timeout_s=config.item_timeout_s,
        stage_timeout_s=config.stage_timeout_s,
        max_source_bytes=config.max_source_bytes,
        thumbnail_size=config.thumbnail_size,
        finish=config.finish,
        save_every_s=config.save_every_s,
        replica_memory_mb=config.replica_memory_mb,
        finish_isolation=config.finish_isolation,
        finish_memory_mb=config.finish_memory_mb,
        fetch=config.fetch,
        s3=config.s3,
    )


@dataclass(frozen=True)
class ShardTask:
    """A shard to run.

    Attributes:
        shard: the rows.
        attempts: the crash history of this generation.
        isolate: one row at a time.
        generation: of the part to write; from 1 on, rows of the generation before are kept.
        retry: reasons of the rows to make again, from generation 1 on.
        partials: whether the store may hold saved rows of this shard and generation.
    """

    shard: Shard
    attempts: Attempts
    isolate: bool = False
    generation: int = 0
    retry: tuple[Reason, ...] = ()
    partials: bool = False


@dataclass
class Worker:
    """What `run_shard` works with: shared by the shards in flight in one process.

    Attributes:
        stopping: when set, shards in flight save their finished rows and raise `Abandoned`.
        random: numbers within 0 and 1, to spread retries in time.
    """

    system: System
    reader: RowReader
    storage: Storage
    settings: WorkerSettings
    context: RowContext
    finish: Finish
    fetcher: Fetch = field(default_factory=lambda: LocalFetch(256 * 2**20))
    device_lock: threading.Lock = field(default_factory=threading.Lock)
    watchdog: Watchdog = field(default_factory=NoWatchdog)
    stopping: threading.Event = field(default_factory=threading.Event)
    name: str = ""
    clock: Callable[[], float] = time.perf_counter
    epoch: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random

    @property
    def batch_size(self) -> int:
        """Items per `generate` call."""
        return self.settings.batch_size or self.system.batch_size
