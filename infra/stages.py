"""What a workflow of steps keeps in its run folder: a record per finished step, the files of the
steps, and the claim of the command that is at work there.

```
stages/<step>/DONE.json            the step is done: written last
stages/<step>/<fingerprint>/...    what it made
workflow.json                      the configuration of the last command
claim.json                         who is at work, renewed every few seconds
```
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from geco_core.errors import Fatal
from infra.storage import Storage
from infra.storage.protocol import Data

FOLDER = "stages"
DONE_NAME = "DONE.json"
WORKFLOW_KEY = "workflow.json"
CLAIM_KEY = "claim.json"
_CHUNK_BYTES = 1 << 22


def done_key(step: str) -> str:
    """`stages/<step>/DONE.json`."""
    return f"{FOLDER}/{step}/{DONE_NAME}"


def work_folder(step: str, fingerprint: str) -> str:
    """Key prefix of what a step makes; another fingerprint has another folder, so that a changed
    configuration never goes on with what an earlier one left.
    """
    return f"{FOLDER}/{step}/{fingerprint[:12]}"


def read_json(storage: Storage, key: str) -> dict[str, Any] | None:
    """A JSON object of the run folder; None when there is none.

    Raises:
        Fatal: it is damaged.
    """
    try:
        content = json.loads(storage.get(key))
    except KeyError:
        return None
    except ValueError as error:
        raise Fatal(f"{key} is not JSON: {error}", remedy=f"remove {storage.uri}/{key}") from error
    if not isinstance(content, dict):
        raise Fatal(f"{key} is no record", remedy=f"remove {storage.uri}/{key}")
    return content


def put_done(storage: Storage, step: str, record: Mapping[str, Any]) -> None:
    """Record that a step is done, in place of an earlier record. What it made must be durable."""
    put_stage_json(storage, done_key(step), record)


def put_workflow(storage: Storage, record: Mapping[str, Any]) -> None:
    """Record the configuration of a command, in place of an earlier one's."""
    put_stage_json(storage, WORKFLOW_KEY, record)


def put_stage_json(storage: Storage, key: str, content: Mapping[str, Any]) -> None:
    """Write a JSON object of a step."""
    put_stage_file(storage, key, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def put_stage_file(storage: Storage, key: str, data: Data) -> None:
    """Write a file of a step, in place of an earlier one."""
    storage.put_atomic(key, data)


def put_claim(storage: Storage, claim: Mapping[str, Any], *, only_if_absent: bool) -> bool:
    """Write the claim on the run folder; False when `only_if_absent` and there is one."""
    text = json.dumps(claim, sort_keys=True).encode()
    return storage.put_atomic(CLAIM_KEY, text, only_if_absent=only_if_absent)


def drop_claim(storage: Storage) -> None:
    """Give the run folder free."""
    storage.delete(CLAIM_KEY)


def digest_of(storage: Storage, key: str) -> str:
    """sha256 (hex) of an object, read in pieces. Raises `KeyError` when there is none."""
    digest = hashlib.sha256()
    with storage.open_for_pyarrow(key) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
