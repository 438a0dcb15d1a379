"""Settings of a run reach its workers, and mean there what they say."""

from __future__ import annotations

import pickle
from dataclasses import fields

import pytest

from actors.worker import Abandoned, WorkerSettings, worker_settings
from geco_core.config.load import load
from geco_core.config.run import RunConfig, StageTimeouts

CHANGED = [
    "seed=9",
    "batch_size=7",
    "prepare_threads=3",
    "item_timeout_s=50",
    "stage_timeout_s.generate=20",
    "max_source_bytes=1000",
    "thumbnail_size=0",
    "finish.face_budget=100",
    "save_every_s=5",
    "replica_memory_mb=900",
    "finish_isolation=inline",
    "finish_memory_mb=800",
    "fetch.timeout_s=3",
    "s3.max_attempts=2",
]


def test_no_setting_is_left_at_its_default() -> None:
    plain = worker_settings(RunConfig())
    changed = worker_settings(load(RunConfig, None, CHANGED))
    same = [f.name for f in fields(plain) if getattr(plain, f.name) == getattr(changed, f.name)]
    assert same == []


def test_meshes_are_finished_in_a_child_unless_asked_otherwise() -> None:
    assert worker_settings(RunConfig()).finish_isolation == "child"


@pytest.mark.parametrize(
    ("stages", "prepare_s", "generate_s", "deadly_s"),
    [
        (StageTimeouts(), 60.0, 60.0, 60.0),
        (StageTimeouts(generate=5.0), 60.0, 5.0, 5.0),
        (StageTimeouts(prepare=90.0, finish=1.0), 60.0, 60.0, 60.0),
    ],
)
def test_a_stage_never_gets_more_than_the_item(
    stages: StageTimeouts, prepare_s: float, generate_s: float, deadly_s: float
) -> None:
    settings = WorkerSettings(0, item_timeout_s=60.0, stage_timeout_s=stages)
    assert settings.stage_limit_s("prepare") == prepare_s
    assert settings.stage_limit_s("generate") == generate_s
    assert settings.deadly_limit_s == deadly_s


def test_giving_up_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(Abandoned(3, 17)))
    assert (error.shard, error.rows_saved) == (3, 17)
