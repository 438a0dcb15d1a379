"""The one door by which anything enters a run folder. A test fails when another module writes.

Invariants:
    I1  The rows of shard k are a pure function of the pinned manifest, shard size and k
        (`infra.plan`).
    I2  `assets/part-k.parquet` holds all rows of shard k, each once with a status; it appears whole
        or not at all.
    I3  `done/k.json` is written after the part is durable. No done record: the shard may be made
        again, at the same key.
    I4  Any number of writers of shard k leave one part: the first wins, the others adopt what they
        find. Parts and done records are never changed; making rows again (`geco retry`) writes the
        next generation of both, and the highest generation with a done record counts.
    I5  The part's footer repeats the done record: `done/` is an index that can be rebuilt, and
        readers follow it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.errors import Fatal
from geco_core.types import Shard
from infra.dataset import ShardSummary, encode, read_summary
from infra.storage import Storage

RUN_KEY = "run.json"
SYSTEM_KEY = "system.json"
REPORT_KEY = "report/index.html"
CARD_KEY = "README.md"
_KEY = re.compile(r"(?:assets/part-|done/|attempts/)(\d{6,})(?:-g([1-9]\d*))?\.(?:parquet|json)")


def part_key(shard: int, generation: int = 0) -> str:
    """`assets/part-000003.parquet`; later generations `assets/part-000003-g1.parquet`."""
    return f"assets/part-{_name(shard, generation)}.parquet"


def done_key(shard: int, generation: int = 0) -> str:
    """`done/000003.json`; later generations `done/000003-g1.json`."""
    return f"done/{_name(shard, generation)}.json"


def attempts_key(shard: int, generation: int = 0) -> str:
    """`attempts/000003.json`: exists only for shards whose process died."""
    return f"attempts/{_name(shard, generation)}.json"


def parse_name(key: str) -> tuple[int, int] | None:
    """(shard, generation) of a part, done or attempts key; None for keys of another form."""
    match = _KEY.fullmatch(key)
    return (int(match[1]), int(match[2] or 0)) if match else None


def _name(shard: int, generation: int) -> str:
    return f"{shard:06d}" + (f"-g{generation}" if generation else "")


def commit_shard(storage: Storage, table: pa.Table, summary: ShardSummary) -> ShardSummary:
    """Make a shard durable, then visible.

    Returns:
        The summary of the rows that stand in the store: ours, or those of a writer who was faster.

    Raises:
        Fatal: the table does not hold exactly the shard's rows.
        Retryable: the store failed; committing again is safe.
    """
    if table.num_rows != summary.rows:
        raise Fatal(
            f"shard {summary.shard} has {table.num_rows} rows, the plan says {summary.rows}",
            stage="commit",
        )
    data = encode(table, summary)
    key = part_key(summary.shard, summary.generation)
    if not storage.put_atomic(key, data, only_if_absent=True):
        shard = Shard(summary.shard, summary.start, summary.stop)
        standing = adopt_shard(storage, shard, summary.generation)
        if standing is not None:
            return standing
        storage.put_atomic(key, data)  # what stood there is not of this protocol: replace it
    _put_json(storage, done_key(summary.shard, summary.generation), summary.to_json())
    return summary


def adopt_shard(storage: Storage, shard: Shard, generation: int = 0) -> ShardSummary | None:
    """Complete the commit of a writer that died between the part and the done record.

    Returns:
        The summary of the part that stands; None when there is no whole part of these rows.
    """
    summary = stored_summary(storage, shard.index, generation)
    if summary is None or (summary.start, summary.stop) != (shard.start, shard.stop):
        return None
    _put_json(storage, done_key(shard.index, generation), summary.to_json())
    return summary


def stored_summary(storage: Storage, shard: int, generation: int = 0) -> ShardSummary | None:
    """The footer summary of a shard's part; None when there is no whole part."""
    key = part_key(shard, generation)
    try:
        with storage.open_for_pyarrow(key) as file:
            summary = read_summary(file)
        if summary is None:  # a part is not called damaged because a ranged read failed
            summary = read_summary(pa.BufferReader(storage.get(key)))
    except KeyError:
        return None
    wanted = (shard, generation)
    return summary if summary and (summary.shard, summary.generation) == wanted else None


def agree(record: ShardSummary, footer: ShardSummary) -> bool:
    """Whether a done record tells of the rows of a part.

    Times and worker may be another's: where a store has no conditional put, of two writers that
    race one may leave the part and the other the record.
    """

    def rows(summary: ShardSummary) -> tuple[Any, ...]:
        s = summary
        return s.shard, s.generation, s.start, s.stop, dict(s.counts), dict(s.reasons)

    return rows(record) == rows(footer)


def drop_generation(storage: Storage, shard: int, generation: int, *, successor: int) -> None:
    """Remove a superseded generation of a shard: its done record, then its part and crash record.

    A death in between leaves a part without a done record below a generation that counts; `geco
    repair` and the next `geco retry` remove it.

    Args:
        storage: of the run folder.
        shard: its index.
        generation: to remove.
        successor: a higher generation, committed.

    Raises:
        Fatal: the successor is not committed; nothing is removed.
    """
    if successor <= generation or not storage.exists(done_key(shard, successor)):
        raise Fatal(
            f"generation {generation} of shard {shard} is not superseded: there is no "
            f"{done_key(shard, successor)}",
            stage="commit",
        )
    storage.delete(done_key(shard, generation))
    storage.delete(part_key(shard, generation))
    storage.delete(attempts_key(shard, generation))


def withdraw_done(storage: Storage, shard: int, generation: int) -> None:
    """Remove a done record that has no whole part: the shard is made again."""
    storage.delete(done_key(shard, generation))


def remove_damaged_part(storage: Storage, shard: int, generation: int) -> bool:
    """Remove a part that can not be read, and its done record before it.

    Returns:
        False, and nothing is removed, when the part reads after all or is gone.
    """
    key = part_key(shard, generation)
    try:
        data = storage.get(key)
    except KeyError:
        return False
    if reads_as_parquet(pa.BufferReader(data)):
        return False
    storage.delete(done_key(shard, generation))
    storage.delete(key)
    return True


def reads_as_parquet(file: pa.NativeFile) -> bool:
    """Whether the footer of a file can be read."""
    try:
        pq.ParquetFile(file)
    except (pa.ArrowException, OSError):
        return False
    return True


def rewrite_done(storage: Storage, summary: ShardSummary) -> None:
    """Write the done record of a part again, from its footer."""
    _put_json(storage, done_key(summary.shard, summary.generation), summary.to_json())


def discard_shard(storage: Storage, shard: int, generation: int) -> None:
    """Give up the rows of a part, so that they are made again: its done record first."""
    storage.delete(done_key(shard, generation))
    storage.delete(part_key(shard, generation))


def remove_leftover(storage: Storage, key: str) -> None:
    """Remove a partial or a crash record that nobody reads any more.

    Raises:
        Fatal: `key` is of another kind.
    """
    if not key.startswith(("partial/", "attempts/")):
        raise Fatal(f"{key} is no leftover", stage="commit")
    storage.delete(key)


def create_once(storage: Storage, key: str, content: dict[str, Any]) -> dict[str, Any]:
    """Write a JSON record unless there is one; returns the record that stands."""
    if _put_json(storage, key, content, only_if_absent=True) and storage.conditional_put:
        return content
    return json.loads(storage.get(key))  # of two writers without conditions the later one stands


def put_attempts(storage: Storage, key: str, record: dict[str, Any]) -> None:
    """Write the crash record of a shard.

    Durable when this returns: the record must outlive a death at the very next instruction.
    """
    _put_json(storage, key, record)


def put_partial(storage: Storage, key: str, data: bytes | memoryview) -> None:
    """Save rows of a shard that is not finished."""
    storage.put_atomic(key, data)


def drop_partial(storage: Storage, key: str) -> None:
    """Remove saved rows that a committed part holds."""
    storage.delete(key)


def put_normalised(storage: Storage, key: str, path: Path) -> None:
    """Publish a normalised manifest; the first one stands."""
    storage.put_atomic(key, path, only_if_absent=True)


def put_duplicates(storage: Storage, key: str, rows: np.ndarray) -> None:
    """Publish the sorted numbers of duplicate rows (int64, little endian)."""
    storage.put_atomic(key, rows.astype("<i8").tobytes(), only_if_absent=True)


def put_target(storage: Storage, key: str, data: bytes, *, replace: bool = False) -> bool:
    """Keep a target under its content address: the first one stands, unless it is replaced.

    Returns:
        Whether ours was written.
    """
    return storage.put_atomic(key, data, only_if_absent=not replace)


def put_report(storage: Storage, page: bytes) -> None:
    """Publish the report page, in place of an earlier one."""
    storage.put_atomic(REPORT_KEY, page)


def put_card(storage: Storage, text: str) -> None:
    """Publish the dataset card, in place of an earlier one."""
    storage.put_atomic(CARD_KEY, text.encode())


def _put_json(
    storage: Storage, key: str, content: dict[str, Any], *, only_if_absent: bool = False
) -> bool:
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    return storage.put_atomic(key, text.encode(), only_if_absent=only_if_absent)
