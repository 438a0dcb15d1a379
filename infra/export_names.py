"""File names for item ids: readable where possible, unique always, harmless everywhere.

An id that is a plain name keeps it. Any other one is cleaned and gets a digest of the whole id, and
so does a plain name that looks as if it had one, or like that of a level of detail, so that no two
files ever share a name.
"""

from __future__ import annotations

import hashlib
import re

MAX_STEM = 120
DIGEST_LENGTH = 12
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_TAGGED = re.compile(rf".*-[0-9a-f]{{{DIGEST_LENGTH}}}")
_LEVEL = re.compile(r".*\.lod\d+", re.IGNORECASE)  # what levels of detail are called
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
# Device names that Windows reserves, whatever follows the dot.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


def safe_name(item_id: str) -> str:
    """A file name without suffix for an item id: no separators, no leading dot, at most
    `MAX_STEM` + 13 characters of ASCII, different for different ids.
    """
    plain = (
        len(item_id) <= MAX_STEM
        and _PLAIN.fullmatch(item_id)
        and not item_id.endswith(".")
        and not _TAGGED.fullmatch(item_id)
        and not _LEVEL.fullmatch(item_id)
        and not _RESERVED.fullmatch(item_id)
    )
    if plain:
        return item_id
    digest = hashlib.sha256(item_id.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_LENGTH]
    stem = _UNSAFE.sub("_", item_id)[:MAX_STEM].strip("._-")
    if not stem or _RESERVED.fullmatch(stem):
        stem = f"item_{stem}" if stem else "item"
    return f"{stem}-{digest}"
