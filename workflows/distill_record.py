"""`workflow.json`: what the last `geco distill` on a folder worked with, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geco_core.config.distill import DistillConfig
from geco_core.config.load import to_dict
from geco_core.config.run import S3Config
from geco_core.errors import ConfigError
from infra.environment import describe_environment
from infra.plan import read_run
from infra.stages import WORKFLOW_KEY, put_workflow, read_json
from infra.storage import Storage, open_storage
from workflows.dag import DagResult, Step, error_text
from workflows.dag_record import fingerprints

WORKFLOW = "distill"


def is_distillation(uri: str, s3: S3Config) -> bool:
    """Whether a folder holds a distillation."""
    return read_distillation(open_storage(uri, s3)) is not None


def refuse_generation(storage: Storage) -> None:
    """Raise `ConfigError` when a folder is a run of the generation engine."""
    if read_run(storage) is not None:
        raise ConfigError(
            f"{storage.uri} is a run of geco generate", remedy="give another --out folder"
        )


def read_distillation(storage: Storage) -> dict[str, Any] | None:
    """`workflow.json`; None when the folder holds no distillation. Raises `Fatal`: damaged."""
    record = read_json(storage, WORKFLOW_KEY)
    return record if record is not None and record.get("workflow") == WORKFLOW else None


def begin_record(
    storage: Storage,
    config: DistillConfig,
    licences: Sequence[str],
    steps: Sequence[Step],
    at: str,
) -> dict[str, Any]:
    """Write what this command works with; returns the record.

    Args:
        storage: of the run folder.
        config: of the command.
        licences: of the teacher's weights.
        steps: the graph.
        at: the time, ISO 8601.
    """
    standing = read_json(storage, WORKFLOW_KEY) or {}
    prints = fingerprints(steps)
    record: dict[str, Any] = {
        "workflow": WORKFLOW,
        "config": to_dict(config),
        "licences": list(licences),
        "steps": [
            {"name": step.name, "needs": list(step.needs), "fingerprint": prints[step.name]}
            for step in steps
        ],
        "created_at": standing.get("created_at", at),
        "last_command_at": at,
        "environment": describe_environment(),
    }
    put_workflow(storage, record)
    return record


def end_record(storage: Storage, record: dict[str, Any], result: DagResult, wall_s: float) -> None:
    """Add how the steps of the command ended."""
    ends = {
        name: {"state": str(state), "error": error_text(result.errors.get(name))}
        for name, state in result.states.items()
    }
    put_workflow(storage, {**record, "last": ends, "wall_s": round(wall_s, 1)})
