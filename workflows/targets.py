"""`geco targets`: what a teacher makes of every manifest row, as training data for its student.

It is the generation engine run with the system `targets`: same plan, shards, commits, resume and
verbs, with more columns in a row. Nothing that the store of targets holds is made again, in this
run or another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from actors.stop import Stop
from geco_core.checkpoints.licences import check_distillable
from geco_core.config.distill import DistillConfig
from geco_core.config.load import load, to_dict
from geco_core.config.run import RunConfig, model_overrides
from geco_core.distill.target_address import deciding
from geco_core.systems import describe_weights
from infra.extra_columns import TARGETS
from infra.storage import open_storage
from workflows.generate import STALE_TEMPORARY_S, GenerateResult, generate
from workflows.progress import Progress, ProgressMaker


def targets(
    config: DistillConfig,
    manifest: str,
    out: str,
    *,
    words: Sequence[str] = (),
    stop: Stop | None = None,
    make_progress: ProgressMaker = Progress,
    clock: Callable[[], float] = time.monotonic,
) -> GenerateResult:
    """Make the targets of a manifest that are not made yet. Running it again resumes.

    Args:
        config: `teacher`, `targets`, `seed`, `cluster` and `s3` count.
        manifest: as in `geco generate`.
        out: run folder, local or `s3://`.
        words: `key=value` on the run configuration: how to execute.
        stop, make_progress: see `workflows.generate.generate`.
        clock: monotonic seconds.

    Raises:
        ConfigError, ManifestError: refused before any work, a teacher under a licence that
            restricts distillation and was not acknowledged among them.
        Fatal: the run can not go on; what is committed stays.
        Interrupted: asked to stop twice.
    """
    run = targets_run(config, manifest, out, words)
    check_teacher_licences(config)
    if run.targets_store:
        shared = open_storage(run.targets_store, run.s3)
        shared.sweep_temporary(time.time() - STALE_TEMPORARY_S)
    return generate(run, clock=clock, stop=stop, make_progress=make_progress)


def targets_run(
    config: DistillConfig, manifest: str, out: str, words: Sequence[str] = ()
) -> RunConfig:
    """The run that makes the targets of a configuration. Raises `ConfigError`."""
    teacher, own = config.teacher, config.targets
    plain = to_dict(config)
    base: dict[str, Any] = {
        "system": TARGETS,
        "preset": teacher.preset,
        "model": {**teacher.model, "teacher": teacher.system, "targets": deciding(own)},
        "manifest": manifest,
        "out": out,
        "seed": config.seed,
        "shard_size": own.shard_size,
        "workers": own.workers,
        "batch_size": own.batch_size,
        "targets_store": own.store,
        "cluster": plain["cluster"],
        "s3": plain["s3"],
    }
    return load(RunConfig, base, words)


def check_teacher_licences(config: DistillConfig) -> None:
    """Raise `ConfigError` when the teacher's licences restrict distillation and were not
    acknowledged.
    """
    teacher = config.teacher
    known = describe_weights(teacher.system, teacher.preset, model_overrides(teacher.model))
    check_distillable(known.licences, teacher.acknowledge_licences)
