"""A training set in the layout of CRM's data, on any store.

Follows the published examples of CRM (arXiv 2403.05034):

```
caption.csv                        id,caption: one line per object, with or without that header
<id>/000.png ... 005.png           square RGBA, straight alpha: front, left, down, back, right, top
<id>/xyz_new_000.png ... 005.png   their coordinate maps, RGB of the same size: (x, y, z) of the
                                   surface as 255 (p + 1) / 2, truncated, the background 127
```

Both show [-1, 1] on either axis. Without `caption.csv` the folders are the objects, and they have
no captions. Nothing here trusts the files: pictures go through `imaging.decode`, ids are single
path components. `crm_renders` reads what the reconstructor is trained on besides.

Legend: n objects, N pixels per side.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from geco_core.errors import BadItem, Fatal, Reason
from geco_core.imaging.decode import DecodeLimits, decode_image

T = TypeVar("T")
VIEWS = 6
INDEX = "caption.csv"
STAGE = "train"
MAX_INDEX_BYTES = 1 << 30
MAX_PICTURE_BYTES = 32 << 20
# Of the objects that follow a bad one, how many are tried in its place.
REPLACEMENTS = 100


class Files(Protocol):
    """Where the layout lies. Names are relative and separated by "/"."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """A file. Raises `KeyError` when there is none, `BadItem` when it is larger."""
        ...

    def names(self) -> Iterable[str]:
        """Every file, in any order."""
        ...


@dataclass(frozen=True)
class CrmObject:
    """One object as stored.

    Attributes:
        item_id: its folder.
        caption: "" for none.
        views: uint8 [6, N, N, 4], straight alpha.
        ccms: uint8 [6, N, N, 3]; None where they were not asked for.
    """

    item_id: str
    caption: str
    views: np.ndarray
    ccms: np.ndarray | None


@dataclass(frozen=True)
class Entry:
    """A line of the index."""

    item_id: str
    caption: str = ""


class CrmFolder:
    """The objects of a training set, split into those for training and those held out.

    Args:
        files: the layout.
        heldout: the first so many, by id, are held out where there are more than that.
        max_side: pixels per side; larger pictures are refused.

    Raises:
        Fatal: there are no objects, or the index is no table of ids.
    """

    def __init__(self, files: Files, heldout: int = 100, max_side: int = 2048) -> None:
        self.files = files
        self.limits = DecodeLimits(
            max_bytes=MAX_PICTURE_BYTES,
            max_pixels=max_side * max_side,
            max_side=max_side,
            work_side=max_side,
        )
        entries = sorted(_entries(files), key=lambda entry: entry.item_id)
        if not entries:
            raise Fatal(
                f"there are no objects: neither {INDEX} nor folders with 000.png",
                stage=STAGE,
                remedy="give the folder that holds caption.csv (docs/guide/training.md)",
            )
        kept = heldout if len(entries) > heldout else 0
        self.heldout: tuple[Entry, ...] = tuple(entries[:kept])
        self.train: tuple[Entry, ...] = tuple(entries[kept:])
        self.bad: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """Of the ids and captions that are trained on, in their order; not of the pictures."""
        lines = "\n".join(f"{e.item_id}\t{e.caption}" for e in self.train)
        return hashlib.sha256(lines.encode()).hexdigest()

    def read(self, entry: Entry, *, ccms: bool = True) -> CrmObject:
        """One object.

        Raises:
            BadItem: a file is missing, damaged, or of another size than the others.
        """
        views = [self._picture(entry, f"{k:03d}.png") for k in range(VIEWS)]
        maps = [self._picture(entry, f"xyz_new_{k:03d}.png") for k in range(VIEWS if ccms else 0)]
        sides = sorted({picture.shape[:2] for picture in (*views, *maps)})
        if len(sides) != 1 or sides[0][0] != sides[0][1]:
            raise bad_object(
                entry.item_id, f"its pictures are {sides}, not squares of one size",
                Reason.CORRUPT_IMAGE,
            )  # fmt: skip
        return CrmObject(
            entry.item_id,
            entry.caption,
            np.stack(views),
            np.stack(maps)[..., :3] if ccms else None,
        )

    def usable(self, row: int, read: Callable[[Entry], T], *, heldout: bool = False) -> T:
        """What `read` makes of a row, or of the next row that can be read.

        Which one depends on `read` and the data alone, so that every process and every attempt sees
        the same. `bad` is only told: an object may be bad for some draws and good for others.

        Args:
            row: of those that are trained on, or of those held out.
            read: a pure function of the object. Raises `BadItem`.
            heldout: which of the two.

        Raises:
            Fatal: none of the rows tried can be read.
        """
        entries = self.heldout if heldout else self.train
        count = min(len(entries), REPLACEMENTS)
        for step in range(count):
            entry = entries[(row + step) % len(entries)]
            try:
                return read(entry)
            except BadItem as error:
                self.bad[entry.item_id] = error.message
        first = entries[row].item_id
        raise Fatal(
            f"none of {count} objects can be read, {first} because "
            f"{self.bad.get(first, 'it is bad')}",
            stage=STAGE,
            remedy="check the files of the training set",
        )

    def _picture(self, entry: Entry, name: str) -> np.ndarray:
        data = object_bytes(self.files, entry.item_id, name, MAX_PICTURE_BYTES)
        return decode_image(data, item_id=entry.item_id, limits=self.limits).rgba


def object_bytes(files: Files, item_id: str, name: str, max_bytes: int) -> bytes:
    """A file of an object. Raises `BadItem` when it is missing or too large."""
    try:
        return files.read(f"{item_id}/{name}", max_bytes)
    except KeyError as error:
        raise bad_object(item_id, f"{name} is missing", Reason.NOT_FOUND) from error


def bad_object(item_id: str, message: str, reason: Reason) -> BadItem:
    """The refusal of one object."""
    return BadItem(
        message, reason=reason, item_id=item_id, stage=STAGE, remedy="write the object again"
    )


def _entries(files: Files) -> list[Entry]:
    try:
        data = files.read(INDEX, MAX_INDEX_BYTES)
    except KeyError:
        return [Entry(name) for name in folders(files.names())]
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _bad_index(f"it is no UTF-8 CSV: {error}") from error
    rows = [row for row in rows if row]
    if rows and rows[0][0].strip().lower() == "id":
        rows = rows[1:]
    found = [Entry(row[0].strip(), row[1].strip() if len(row) > 1 else "") for row in rows]
    _check_ids([entry.item_id for entry in found])
    return found


def folders(names: Iterable[str]) -> list[str]:
    """The objects' folders among the names of files."""
    parts = (name.split("/") for name in names)
    return [p[0] for p in parts if len(p) == 2 and p[1] == "000.png"]


def _check_ids(ids: Sequence[str]) -> None:
    for number, item_id in enumerate(ids, start=1):
        if item_id in ("", ".", "..") or "/" in item_id or "\\" in item_id:
            raise _bad_index(f"object {number} is called {item_id[:80]!r}, which is no folder name")
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))
        raise _bad_index(f"{twice[:80]!r} stands there twice")


def _bad_index(why: str) -> Fatal:
    return Fatal(f"{INDEX} can not be used: {why}", stage=STAGE, remedy="write lines of id,caption")
