"""The plan of a run: which shards exist, and `run.json`, which pins everything they depend on.

`run.json` is created only if absent. A resume with another manifest or another configuration is
refused with the difference, because half a dataset of each would be neither.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geco_core.config.load import difference, filled
from geco_core.config.run import RunConfig, S3Config, pinned
from geco_core.errors import ConfigError, Fatal, ManifestError
from geco_core.types import Shard
from infra.commit import RUN_KEY, create_once, part_key, put_duplicates
from infra.dataset import READABLE_VERSIONS, SCHEMA_VERSION
from infra.duplicates import find_duplicates
from infra.fetch import check_config
from infra.finish_columns import RECORD_KEY, wanted_columns
from infra.locate import locate
from infra.manifest import Manifest, read_manifest
from infra.patterns import matches
from infra.storage import Storage
from infra.storage.open import DEFAULT_S3

_NEEDED = ("shards", "config", "config_digest", "system", "created_at")


@dataclass(frozen=True)
class SystemDescription:
    """What is known about a system before it is loaded.

    Attributes:
        config: its resolved configuration, plain data.
        weights: file names and digests the configuration names.
        licences: licences of the weights.
    """

    config: Mapping[str, Any]
    weights: Mapping[str, str]
    licences: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Deterministic shards over a manifest."""

    manifest: Manifest
    shard_size: int
    duplicates: int

    @property
    def rows(self) -> int:
        """Manifest rows: each ends as exactly one output row."""
        return self.manifest.rows

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.shard_size)

    def shard(self, index: int) -> Shard:
        """Rows [index * size, (index + 1) * size) of the manifest."""
        if not 0 <= index < self.shards:
            raise IndexError(f"shard {index} of {self.shards}")
        start = index * self.shard_size
        return Shard(index, start, min(start + self.shard_size, self.rows))


def make_plan(storage: Storage, config: RunConfig) -> Plan:
    """Read the manifest and cut it.

    Raises:
        ConfigError: `fetch.*` can not be used.
        ManifestError: the manifest is refused, or the run folder belongs to another one.
    """
    check_config(config.fetch)
    refuse_run_inside_manifest(config.manifest, storage)
    located = locate(config.manifest, config.s3)
    existing = read_run(storage)
    if existing is not None and existing["manifest"]["digest"] != located.digest:
        _refuse_manifest(existing, located.source, located.digest)
    manifest = read_manifest(located, config.columns, storage)
    return Plan(manifest, config.shard_size, len(load_duplicates(manifest, storage, config.s3)))


def load_duplicates(manifest: Manifest, storage: Storage, s3: S3Config = DEFAULT_S3) -> np.ndarray:
    """Sorted numbers of the duplicate rows, found and published on the first call."""
    columns = json.dumps(asdict(manifest.columns), sort_keys=True)
    digest = hashlib.sha256(f"{manifest.digest}{columns}".encode()).hexdigest()
    key = f"manifest/duplicates-{digest[:16]}.i64"
    if not storage.exists(key):
        put_duplicates(storage, key, find_duplicates(manifest, storage, s3))
    data = storage.get(key)
    if len(data) % 8:
        raise Fatal(f"{key} is damaged", remedy="remove it: it is made again", stage="plan")
    return np.frombuffer(data, dtype="<i8")


def open_run(
    storage: Storage,
    config: RunConfig,
    plan: Plan,
    system: SystemDescription,
    environment: Mapping[str, Any],
    created_at: str,
    store: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Create `run.json`, or check that the existing one pins the same things.

    Args:
        storage: of the run folder.
        config: of the run.
        plan: of the run.
        system: of the run.
        environment: of the machine, for the record.
        created_at: time, for the record.
        store: what is known about the store (`infra.run_storage`), for the record.

    Returns:
        The record that stands.

    Raises:
        ConfigError: the run folder was made with another configuration.
        ManifestError: ... with another manifest.
    """
    record = _record(config, plan, system) | {
        "storage": dict(store or {}),
        "created_at": created_at,
        "environment": dict(environment),
    }
    standing = create_once(storage, RUN_KEY, record)
    check_run(standing, config, plan, system)
    return standing


def check_run(
    standing: Mapping[str, Any], config: RunConfig, plan: Plan, system: SystemDescription
) -> None:
    """Refuse to go on with a run that pins something else.

    Raises:
        ConfigError: `standing`, its `run.json`, was made with another configuration.
        ManifestError: ... with another manifest.
    """
    if standing["manifest"]["digest"] != plan.manifest.digest:
        _refuse_manifest(standing, plan.manifest.source, plan.manifest.digest)
    lines = difference(_pinned_view(standing), _pinned_view(_record(config, plan, system)))
    if lines:
        raise ConfigError(
            "this run folder was made with another configuration:\n  " + "\n  ".join(lines),
            remedy="give another --out folder, or the values on the left",
            stage="plan",
        )


def read_run(storage: Storage) -> dict[str, Any] | None:
    """`run.json`, or None. Raises `Fatal` when it is not one of ours."""
    try:
        record = json.loads(storage.get(RUN_KEY))
    except KeyError:
        return None
    except ValueError as error:
        raise Fatal(
            f"{RUN_KEY} is not JSON: {error}", remedy="give another --out folder"
        ) from error
    if not isinstance(record, dict) or record.get("schema_version") not in READABLE_VERSIONS:
        raise Fatal(
            f"{RUN_KEY} was written by another version of this program",
            remedy="give another --out folder",
        )
    try:
        whole = plan_of(record).shard_size > 0 and all(name in record for name in _NEEDED)
    except (KeyError, TypeError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise Fatal(
            f"{RUN_KEY} is not complete", remedy="restore the file, or give another --out folder"
        )
    return record


def plan_of(record: Mapping[str, Any]) -> Plan:
    """The plan pinned in `run.json`."""
    manifest = Manifest.from_json(record["manifest"])
    return Plan(manifest, int(record["shard_size"]), int(record["manifest"]["duplicates"]))


def config_digest(config: RunConfig, system: SystemDescription) -> str:
    """sha256 (hex) over the pinned run configuration and the system's resolved one."""
    content = {"run": pinned(config), "system": dict(system.config)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _record(config: RunConfig, plan: Plan, system: SystemDescription) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "manifest": plan.manifest.to_json() | {"duplicates": plan.duplicates},
        "shard_size": plan.shard_size,
        "shards": plan.shards,
        "config": pinned(config),
        "config_digest": config_digest(config, system),
        RECORD_KEY: list(wanted_columns(config.finish)),
        "system": {
            "config": dict(system.config),
            "weights": dict(system.weights),
            "licences": list(system.licences),
        },
    }


def _pinned_view(record: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change between two commands on one run folder."""
    return {
        "columns": record["manifest"]["columns"],
        "rows": record["manifest"]["rows"],
        # A key that the run's own version did not know has the default, which changes nothing.
        "config": filled(pinned(RunConfig()), record["config"]),
        "system": record["system"],
    }


def refuse_run_inside_manifest(source: str, storage: Storage) -> None:
    """A folder manifest that contains its own run would change with every commit.

    Raises:
        ManifestError: the run lies in its manifest.
    """
    if not source or not _would_find(source, f"{storage.uri}/{part_key(0)}"):
        return
    raise ManifestError(
        f"the run folder {storage.uri} lies inside the manifest folder {source}",
        remedy="give an --out outside of it",
        stage="plan",
    )


def _would_find(source: str, part: str) -> bool:
    """Whether a manifest that is a folder or a pattern includes a part of the run."""
    if source.startswith("s3://"):
        return matches(part, source) or part.startswith(f"{source.rstrip('/')}/")
    if part.startswith("s3://"):
        return False
    path = Path(os.path.expanduser(source)).absolute()  # noqa: PTH111 - the other raises
    return matches(part, str(path)) or (Path(part).is_relative_to(path) and path.is_dir())


def _refuse_manifest(standing: Mapping[str, Any], source: str, digest: str) -> None:
    old = standing["manifest"]
    raise ManifestError(
        f"this run folder belongs to another manifest: {old['source']} ({old['rows']} rows, "
        f"digest {old['digest'][:12]}), not {source} (digest {digest[:12]})",
        remedy="give another --out folder, or the manifest the run started with",
        stage="plan",
    )
