"""The order a worker is built from: plain data that travels to any process, and the function that
builds it there.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.shard_worker import Worker, WorkerSettings
from actors.watchdog import NoWatchdog, Watchdog
from geco_core.config.load import difference
from geco_core.errors import Fatal
from geco_core.systems import build_system
from infra.commit import SYSTEM_KEY, create_once
from infra.dataset import RowContext
from infra.manifest import Manifest
from infra.plan import load_duplicates
from infra.rows import RowReader
from infra.storage import open_storage


@dataclass(frozen=True)
class WorkerSpec:
    """Everything a worker is built from."""

    run_uri: str
    manifest: Manifest
    system: str
    preset: str
    overrides: tuple[str, ...]
    code_version: str
    settings: WorkerSettings


def build_worker(spec: WorkerSpec, *, name: str = "", watchdog: Watchdog | None = None) -> Worker:
    """Load the system and open the run.

    Raises:
        ConfigError, Fatal: the system can not be built, or its weights are not those the run
        started with.
    """
    from geco_core.mesh.finish import finish_mesh  # noqa: PLC0415 - the driver never needs it

    storage = open_storage(spec.run_uri)
    system = build_system(spec.system, spec.preset, spec.overrides)
    provenance: dict[str, Any] = {
        **system.provenance(),
        "system": spec.system,
        "preset": spec.preset,
        "code_version": spec.code_version,
    }
    _check_same_system(create_once(storage, SYSTEM_KEY, provenance), provenance)
    return Worker(
        system=system,
        reader=RowReader(spec.manifest, storage, load_duplicates(spec.manifest, storage)),
        storage=storage,
        settings=spec.settings,
        context=RowContext(spec.system, spec.preset, provenance),
        finish=finish_mesh,
        device_lock=threading.Lock(),
        watchdog=watchdog or NoWatchdog(),
        name=name,
    )


def _check_same_system(standing: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """The code may be newer on a resume; weights and configuration may not differ."""
    ignored = {"code_version"}
    lines = difference(
        {k: v for k, v in standing.items() if k not in ignored},
        {k: v for k, v in provenance.items() if k not in ignored},
    )
    if lines:
        raise Fatal(
            "the loaded system is not the one this run started with:\n  " + "\n  ".join(lines),
            remedy="restore the weights, or give another --out folder",
            stage="plan",
        )
