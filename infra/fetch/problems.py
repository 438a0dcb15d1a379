"""What can be wrong with a source, in words that are safe to write into a row and a log.

A URL may be a secret: presigned URLs carry their signature in the query, others a password in front
of the host. `shown` takes both away, and no message of this package holds a URL that did not pass
through it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from geco_core.errors import BadItem, Reason, Retryable

STAGE = "fetch"
MAX_SHOWN = 200
_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://", re.ASCII)
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::\d*)?")


class FetchTimeout(Retryable):
    """The source did not answer, or not to the end, within its time.

    A row that fails by it in every attempt carries `reason`.
    """

    reason = Reason.TIMED_OUT


def scheme_of(source: str) -> str:
    """The scheme of a URI in lower case; "data" for data URIs, "" for a plain path."""
    found = _URL.match(source)
    if found:
        return found[1].lower()
    return "data" if source[:5].lower() == "data:" else ""


def shown(source: str) -> str:
    """A source as messages may show it: without query, fragment and user, in one short line."""
    text = source
    if scheme_of(source) == "data":
        text = source.partition(",")[0] + ",..."
    elif scheme_of(source):
        head, _, rest = source.partition("://")
        host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
        host = host.rpartition("@")[2]
        # What is no port is the begin of a password with a `/` or `?` in it.
        plain = _HOST.fullmatch(host)
        text = f"{head}://{host}{slash}{path}" if plain else f"{head}://..."
    if len(text) > MAX_SHOWN:
        text = text[:MAX_SHOWN] + "..."
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bad(message: str, reason: Reason, item_id: str | None, remedy: str = "") -> BadItem:
    """The error that ends this row."""
    return BadItem(message, reason=reason, remedy=remedy, item_id=item_id, stage=STAGE)


def too_many(source: str, size: int, limit: int, item_id: str | None) -> BadItem:
    """The error of a source above the limit, in bytes."""
    return bad(
        f"{shown(source)} has {size} bytes or more, the limit is {limit}",
        Reason.TOO_MANY_BYTES,
        item_id,
        "raise max_source_bytes or shrink the file",
    )


def passing(message: str, item_id: str | None) -> Retryable:
    """The error of a fault that may be over soon."""
    return Retryable(message, remedy="try again later", item_id=item_id, stage=STAGE)


def timed_out(source: str, seconds: float, item_id: str | None) -> FetchTimeout:
    """The error of a source that took longer than `seconds`."""
    return FetchTimeout(
        f"{shown(source)} took longer than {seconds:g} s",
        remedy="raise fetch.timeout_s, or copy the images to a faster place",
        item_id=item_id,
        stage=STAGE,
    )


def read_capped(
    source: str,
    read: Callable[[int], bytes],
    max_bytes: int,
    item_id: str | None,
    *,
    block_bytes: int = 1 << 18,
) -> bytes:
    """Everything `read(n)` gives until it gives nothing.

    Raises:
        BadItem: too_many_bytes; at most one block beyond the limit is ever held.
    """
    blocks, size = [], 0
    while block := read(block_bytes):
        size += len(block)
        if size > max_bytes:
            raise too_many(source, size, max_bytes, item_id)
        blocks.append(block)
    return b"".join(blocks)
