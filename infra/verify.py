"""`verify`: is every manifest row in exactly one part that readers see, and are its bytes right?

Reads only. Shard by shard, so memory does not grow with the run: the manifest is read in order by
one thread, parts are checked by several.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa

from geco_core.config.run import S3Config
from geco_core.errors import Fatal, ForgeError, ManifestError
from infra.commit import attempts_key, done_key, part_key
from infra.findings import Finding, Kind, Verification
from infra.finish_columns import recorded_columns
from infra.plan import Plan, load_duplicates, read_run
from infra.rows import Row, RowReader, open_parquet
from infra.storage import Storage
from infra.storage.open import DEFAULT_S3
from infra.survey_keys import RunKeys, survey_keys, unfinished_writes
from infra.verify_part import GlbCheck, PartResult, PartTask, check_part, expected_schema

PARTS_AHEAD = 2  # per thread


def verify_run(
    storage: Storage,
    plan: Plan,
    *,
    fast: bool = False,
    threads: int = 4,
    check_glb: GlbCheck = lambda _: "",
    s3: S3Config = DEFAULT_S3,
) -> Verification:
    """Check a run, finished or not, at rest or not.

    Args:
        storage: of the run folder.
        plan: pinned in its `run.json`.
        fast: listings, done records and footers only.
        threads: parts checked at a time; each holds one row group in memory.
        check_glb: says what is wrong with a GLB whose digest is right, "" for nothing.
        s3: how a manifest in an object store is reached.

    Raises:
        ManifestError: the manifest can not be read (full mode needs it).
        Retryable, Fatal: the store failed.
    """
    keys = survey_keys(storage)
    result = Verification(plan.rows, plan.shards, fast, shards_done=len(keys.done))
    for finding in (*_index_findings(keys, plan), *_leftovers(storage, keys)):
        result.add(finding)
    record = read_run(storage) or {}
    system = str(record.get("config", {}).get("system", ""))
    passthrough = _passthrough(storage, plan, s3, needed=not fast)
    schema = expected_schema(passthrough, system, recorded_columns(record))
    reader = None if fast else _reader(storage, plan, s3)
    tasks = _tasks(plan, keys, reader, schema, check_glb, system, recorded_columns(record))
    for part in _checked(storage, tasks, threads):
        result.rows_found += part.rows
        result.statuses.update(part.statuses)
        for finding in part.findings:
            result.add(finding)
    return result


def _checked(storage: Storage, tasks: Iterator[PartTask], threads: int) -> Iterator[PartResult]:
    """Results in order, a bounded number of parts ahead."""
    waiting: deque[Future[PartResult]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(check_part, storage, task))
                if len(waiting) >= threads * PARTS_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _tasks(
    plan: Plan,
    keys: RunKeys,
    reader: RowReader | None,
    schema: Sequence[tuple[str, pa.DataType | None]],
    check_glb: GlbCheck,
    system: str,
    finish: Sequence[str],
) -> Iterator[PartTask]:
    for index in sorted(keys.done):
        generation = keys.counting(index)
        if index >= plan.shards or generation is None:
            continue
        shard = plan.shard(index)
        rows = None if reader is None else _rows(reader, plan, index)
        yield PartTask(shard, generation, schema, rows, check_glb, system, finish)


def _reader(storage: Storage, plan: Plan, s3: S3Config) -> RowReader:
    """The manifest without the columns that only pass through."""
    try:
        none = np.empty(0, dtype=np.int64)
        duplicates = load_duplicates(plan.manifest, storage, s3) if plan.duplicates else none
    except (Fatal, KeyError, OSError, pa.ArrowException) as error:
        raise _unreadable(plan, error) from error
    return RowReader(replace(plan.manifest, passthrough=()), storage, duplicates, s3)


def _rows(reader: RowReader, plan: Plan, index: int) -> Sequence[Row]:
    try:
        return reader.read(plan.shard(index)).rows
    except (Fatal, KeyError, OSError, pa.ArrowException) as error:
        raise _unreadable(plan, error) from error


def _passthrough(
    storage: Storage, plan: Plan, s3: S3Config, *, needed: bool
) -> list[tuple[str, pa.DataType | None]]:
    """Columns copied from the manifest; their types as far as the manifest can be read."""
    names = plan.manifest.passthrough
    try:
        schema = open_parquet(plan.manifest.files[0], storage, s3).schema_arrow
    except (ForgeError, KeyError, OSError, pa.ArrowException) as error:
        if needed:
            raise _unreadable(plan, error) from error
        return [(name, None) for name in names]
    return [(name, schema.field(name).type) for name in names]


def _unreadable(plan: Plan, error: Exception) -> ManifestError:
    return ManifestError(
        f"the manifest {plan.manifest.source} can not be read: {getattr(error, 'message', error)}",
        remedy="put it back, or check what needs no manifest: geco verify --fast",
        stage="verify",
    )


def _index_findings(keys: RunKeys, plan: Plan) -> Iterator[Finding]:
    for shard in sorted({*keys.done, *keys.parts}):
        if shard >= plan.shards:
            message = f"shard {shard} is not in the plan of {plan.shards} shards"
            yield Finding(Kind.UNKNOWN_SHARD, message, shard)


def _leftovers(storage: Storage, keys: RunKeys) -> Iterator[Finding]:
    for shard in keys.shards():
        counting = keys.counting(shard)
        below = -1 if counting is None else counting
        for generation in sorted(keys.parts.get(shard, set()) - keys.done.get(shard, set())):
            key = part_key(shard, generation)
            if generation < below:
                yield Finding(Kind.SUPERSEDED, f"{key}: generation {below} counts", shard)
            else:
                yield Finding(Kind.UNCOMMITTED_PART, f"{key} has no done record", shard)
        for generation in sorted(g for g in keys.done.get(shard, ()) if g < below):
            key = done_key(shard, generation)
            yield Finding(Kind.SUPERSEDED, f"{key}: generation {below} counts", shard)
        for generation in sorted(g for g in keys.attempts.get(shard, ()) if g < below):
            key = attempts_key(shard, generation)
            yield Finding(Kind.STALE_ATTEMPTS, f"{key}: generation {below} counts", shard)
    for (shard, generation), partials in sorted(keys.partials.items()):
        counting = keys.counting(shard)
        if counting is not None and generation <= counting:
            for key in sorted(partials):
                yield Finding(Kind.STALE_PARTIAL, f"{key}: the shard is committed", shard)
    for key in sorted(keys.foreign):
        yield Finding(Kind.FOREIGN_FILE, f"{key} is none of this program's files")
    for name in unfinished_writes(storage):
        yield Finding(Kind.TEMPORARY, f"{name} is an unfinished write")
