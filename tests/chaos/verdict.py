"""What a run that was disturbed holds in the end, compared with what an undisturbed one holds."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.errors import ForgeError
from geco_core.mesh.glb_read import read_glb
from infra.commit import parse_name, part_key
from infra.run_state import done_generations
from infra.storage import LocalStorage, Storage

COLUMNS = ["item_id", "status", "reason", "seed", "glb", "glb_sha256"]
RECORDS = {"run.json", "system.json", "README.md"}
FOLDERS = {"assets", "done", "attempts", "manifest", "report"}


@dataclass(frozen=True)
class Expected:
    """How an item must end: its status, the reasons it may carry and the digest of its GLB."""

    status: str
    reasons: frozenset[str | None] = frozenset({None})
    digest: str | None = None


@dataclass
class Damage:
    """What is wrong with a run folder; `torn` and `orphans` are litter no reader ever sees."""

    lost: int = 0
    duplicated: int = 0
    unreadable: int = 0
    different: int = 0
    stuck: int = 0
    torn: int = 0
    orphans: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Everything but litter."""
        return self.lost + self.duplicated + self.unreadable + self.different + self.stuck

    def add(self, other: Damage) -> None:
        """Count the damage of another run."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class StoredRow:
    """A row as a reader finds it. `digest` is computed, not read; None without a GLB."""

    item_id: str
    status: str
    reason: str | None
    digest: str | None
    sound: bool


def read_part(storage: Storage, key: str) -> list[StoredRow] | None:
    """The rows of a part; None when it can not be read."""
    try:
        with storage.open_for_pyarrow(key) as file:
            table = pq.read_table(file, columns=COLUMNS)
    except (pa.ArrowException, OSError, KeyError):
        return None
    return [_row(row) for row in table.to_pylist()]


def _row(row: dict[str, object]) -> StoredRow:
    data = row["glb"]
    digest = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else None
    sound = digest == row["glb_sha256"] and (digest is not None) == (row["status"] == "done")
    if isinstance(data, bytes):
        try:
            read_glb(data)
        except ForgeError:
            sound = False
    reason = row["reason"]
    return StoredRow(
        str(row["item_id"]), str(row["status"]), None if reason is None else str(reason), digest,
        sound,
    )  # fmt: skip


def expectations(storage: Storage) -> dict[str, Expected]:
    """What the rows of an undisturbed run say."""
    expected = {}
    for shard, generation in done_generations(storage).items():
        for row in read_part(storage, part_key(shard, generation)) or []:
            reasons = frozenset({row.reason})
            expected[row.item_id] = Expected(row.status, reasons, row.digest)
    return expected


def judge(storage: Storage, expected: Mapping[str, Expected]) -> Damage:
    """Open every object of a finished run and compare its rows."""
    damage = Damage()
    done = done_generations(storage)
    seen: Counter[str] = Counter()
    for key in sorted(storage.list("")):
        folder, _, _ = key.partition("/")
        name = parse_name(key)
        if key.endswith(".json") and not _is_json(storage, key):
            damage.unreadable += 1
            damage.details.append(f"{key} is no JSON")
        if key not in RECORDS and folder not in FOLDERS:
            damage.orphans += 1
            damage.details.append(f"orphan {key}")
        if folder != "assets" or name is None:
            continue
        rows = read_part(storage, key)
        if rows is None:
            damage.unreadable += 1
            damage.details.append(f"{key} is no Parquet file")
        elif done.get(name[0]) == name[1]:
            _compare(key, rows, expected, damage)
            seen.update(row.item_id for row in rows)
        elif name[1] > done.get(name[0], -1):
            damage.orphans += 1
            damage.details.append(f"{key} has no done record")
    damage.lost = len(expected.keys() - seen.keys())
    damage.duplicated = sum(count - 1 for count in seen.values())
    damage.torn = _torn(storage)
    return damage


def _compare(
    key: str, rows: list[StoredRow], expected: Mapping[str, Expected], damage: Damage
) -> None:
    for row in rows:
        wanted = expected.get(row.item_id)
        if not row.sound:
            damage.unreadable += 1
            damage.details.append(f"{row.item_id} in {key}: its GLB is not what the row says")
        elif wanted is None or row.status != wanted.status or row.reason not in wanted.reasons:
            damage.different += 1
            damage.details.append(f"{row.item_id} in {key}: {row.status} {row.reason}")
        elif row.digest != wanted.digest:
            damage.different += 1
            damage.details.append(f"{row.item_id} in {key}: another GLB")


def _is_json(storage: Storage, key: str) -> bool:
    try:
        json.loads(storage.get(key))
    except (ValueError, KeyError):
        return False
    return True


def _torn(storage: Storage) -> int:
    """Unfinished writes of dead processes."""
    if isinstance(storage, LocalStorage):
        return sum(1 for _ in storage.root.rglob(".tmp-*"))
    return 0
