"""Opening a run that exists: what every verb does that takes RUN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geco_core.config.run import S3Config
from geco_core.errors import ConfigError
from infra.plan import Plan, plan_of, read_run
from infra.run_storage import as_recorded
from infra.storage import Storage, open_storage


@dataclass(frozen=True)
class OpenRun:
    """A run as its store describes it.

    Attributes:
        storage: its store.
        record: the content of `run.json`.
        plan: the plan pinned there.
    """

    storage: Storage
    record: Mapping[str, Any]
    plan: Plan


def open_existing_run(run: Storage | str, s3: S3Config | None = None) -> OpenRun:
    """Open a run by its path, URI or store.

    Raises:
        ConfigError: there is no run.
        Fatal: there is something else in its place.
    """
    s3 = s3 or S3Config()
    storage = open_storage(run, s3) if isinstance(run, str) else run
    record = read_run(storage)
    if record is None:
        raise ConfigError(
            f"there is no run in {storage.uri}",
            remedy="give the folder that was --out of `geco generate`",
        )
    return OpenRun(as_recorded(storage, record, s3), record, plan_of(record))
