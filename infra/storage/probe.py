"""Does this store keep `If-None-Match: *`? Asked once, at the start of a run, by writing one key
twice.
"""

from __future__ import annotations

from geco_core.errors import Fatal
from infra.storage.protocol import Storage
from infra.storage.s3 import S3Storage

PROBE_FOLDER = ".probe"


def probe_conditional_put(storage: Storage, token: str) -> bool:
    """Whether of two writes of an absent key the second is refused and the first one stands.

    Args:
        storage: a store; a local one needs no probe.
        token: text no other process uses; names the key, which is deleted afterwards.

    Raises:
        Fatal, Retryable: the store can not be written at all.
    """
    if not isinstance(storage, S3Storage):
        return storage.conditional_put
    trial = S3Storage(storage.uri, storage.config, conditional_put=True)
    key = f"{PROBE_FOLDER}/{token}"
    try:
        trial.put_atomic(key, b"first", only_if_absent=True)
        refused = not trial.put_atomic(key, b"second", only_if_absent=True)
        # Whose write was refused does not matter (an answer may have got lost), but what stands.
        kept = refused and trial.get(key) == b"first"
    except Fatal:  # the condition itself may be what the server refuses: a plain write tells
        trial.put_atomic(key, b"plain")
        kept = False
    trial.delete(key)
    return kept
