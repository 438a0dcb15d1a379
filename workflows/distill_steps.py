"""The steps of a distillation and the graph they form (GECO, arXiv 2405.20327, section 3).

```
conditions -> {stage1 || targets} -> stage2 -> evaluate -> generate
```

Stage I needs no targets, unless its regression on teacher samples is switched on. What enters a
fingerprint decides the result; how a step is executed (processes, intervals of checkpoints, stores)
does not enter, so that these may change from one command to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from geco_core.config.distill import DistillConfig
from geco_core.config.load import to_dict
from geco_core.config.models import InstantMeshConfig
from geco_core.config.run import RunConfig
from geco_core.distill.build import HOW, RESULTS, StageName
from geco_core.distill.target_address import deciding
from geco_core.errors import ConfigError, Fatal
from infra.commit import RUN_KEY
from infra.locate import locate
from infra.stages import digest_of
from infra.training_folder import WEIGHTS_KEY
from workflows.dag import Step, StepContext, StepOutputs
from workflows.distill_conditions import MIN_SIDE, make_conditions
from workflows.distill_evaluate import evaluate_student
from workflows.distill_student import (
    export_student,
    load_tensors,
    student_config,
    student_words,
    teacher_config,
)
from workflows.generate import GenerateResult, generate
from workflows.progress import ProgressMaker
from workflows.targets import targets
from workflows.train_stage import StageInputs, train_stage

STORE = "targets-store"


class Shown:
    """Where steps tell their progress: the live view, or nobody."""

    def count(self, step: str, done: int, total: int) -> None:
        """`done` of `total` units of a step are made."""

    def event(self, step: str, kind: str, at: int, numbers: Mapping[str, float | str]) -> None:
        """Something happened in a training step after `at` updates."""

    def rows(self, step: str) -> ProgressMaker | None:
        """What shows the rows of a generation run; None for its own display."""


def build_steps(config: DistillConfig, shown: Shown | None = None) -> list[Step]:
    """The graph of a configuration.

    Args:
        config: of the distillation.
        shown: told how the steps go on.

    Raises:
        ConfigError: the teacher, the student or the manifest is refused, or Stage II could not
            train on the targets.
    """
    _check_renders(config)
    shown = shown or Shown()
    teacher = results_of(teacher_config(config))
    steps = [
        Step("conditions", partial(_conditions, config, shown), (), _conditions_read(config)),
        Step(
            "targets",
            partial(_targets, config, shown),
            ("conditions",),
            {
                "teacher": teacher,
                "targets": deciding(config.targets),
                "shard_size": config.targets.shard_size,
                "seed": config.seed,
            },
        ),
        *_trainings(config, shown, teacher),
    ]
    if config.conditions.heldout:
        steps.append(_evaluation(config, shown))
        if config.generate:
            steps.append(_generation(config, shown))
    return steps


def _check_renders(config: DistillConfig) -> None:
    """Refuse what Stage II would refuse too, hours later."""
    made, wanted = config.targets, config.stage2
    if made.render_size != wanted.render_size:
        raise ConfigError(
            f"targets have renders of {made.render_size} pixels, Stage II makes "
            f"{wanted.render_size}",
            remedy=f"set stage2.render_size={made.render_size}, or targets.render_size",
        )
    if config.stage2_train.views > made.renders:
        raise ConfigError(
            f"Stage II draws {config.stage2_train.views} renders, a target has {made.renders}",
            remedy="lower stage2_train.views, or raise targets.renders",
        )


def _trainings(config: DistillConfig, shown: Shown, teacher: Mapping[str, Any]) -> list[Step]:
    pairs = ("targets",) if config.stage1.regression_weight else ()
    first = {
        "teacher": teacher,
        "stage1": to_dict(config.stage1),
        "stage1_train": _optimisation(config.stage1_train),
        "student_rank": config.train.student_rank,
        "seed": config.seed,
    }
    second = {
        "teacher": teacher,
        "stage2": to_dict(config.stage2),
        "stage2_train": _optimisation(config.stage2_train),
        "seed": config.seed,
    }
    return [
        Step("stage1", partial(_stage1, config, shown), ("conditions", *pairs), first),
        Step("stage2", partial(_stage2, config, shown), ("stage1", "targets"), second),
    ]


def results_of(config: InstantMeshConfig) -> dict[str, Any]:
    """The part of a chain's configuration that decides what it makes, plain data."""
    plain = to_dict(config)
    found = {name: plain[name] for name in RESULTS}
    return found | {"system": config.system, "preset": config.preset, "dtype": config.dtype}


def condition_side(config: DistillConfig) -> int:
    """Side of the pictures of procedural objects in pixels."""
    return max(MIN_SIDE, teacher_config(config).multiview.condition_size)


def _evaluation(config: DistillConfig, shown: Shown) -> Step:
    reads = {
        "teacher": results_of(teacher_config(config)),
        "student": student_words(config),
        "heldout": config.conditions.heldout,
        "seeds": list(config.evaluate_seeds),
    }
    return Step("evaluate", partial(_evaluate, config, shown), ("stage1", "stage2"), reads)


def _generation(config: DistillConfig, shown: Shown) -> Step:
    student = results_of(student_config(config, {}))
    del student["weights"]  # the trained ones: they are known by the step that makes them
    reads = {"student": student, "seed": config.seed}
    needs = ("conditions", "stage2", "evaluate")
    return Step("generate", partial(_generate, config, shown), needs, reads)


def _optimisation(train: Any) -> dict[str, Any]:
    return {name: value for name, value in to_dict(train).items() if name not in HOW}


def _conditions_read(config: DistillConfig) -> dict[str, Any]:
    conditions = config.conditions
    reads: dict[str, Any] = {"heldout": conditions.heldout, "side": condition_side(config)}
    if conditions.manifest:
        return reads | {"manifest_digest": locate(conditions.manifest, config.s3).digest}
    return reads | {"objects": conditions.objects, "first": conditions.first}


def _conditions(config: DistillConfig, shown: Shown, context: StepContext) -> StepOutputs | None:
    progress = partial(shown.count, context.name)
    return make_conditions(config.conditions, condition_side(config), context, progress)


def _targets(config: DistillConfig, shown: Shown, context: StepContext) -> StepOutputs | None:
    # Targets are kept by content beside the steps, so that no setting that changes makes one again.
    store = config.targets.store or context.uri(STORE)
    result = targets(
        replace(config, targets=replace(config.targets, store=store)),
        _train_manifest(config, context),
        context.uri(context.key()),
        words=[f"engine={config.train.engine}"],
        stop=context.stop,
        **_display(shown, context.name),
    )
    return _rows_made(result, context, "targets")


def _stage1(config: DistillConfig, shown: Shown, context: StepContext) -> StepOutputs | None:
    made = context.address(context.inputs.get("targets", {}).get("targets", ""))
    inputs = StageInputs(targets=made, conditions=made or _train_manifest(config, context))
    return _train("stage1", config, inputs, context, shown)


def _stage2(config: DistillConfig, shown: Shown, context: StepContext) -> StepOutputs | None:
    made = context.address(context.inputs["targets"]["targets"])
    first = context.inputs["stage1"]
    init = {"generator": context.uri(first["weights"])}
    inputs = StageInputs(targets=made, conditions=made, init=init)
    done = _train("stage2", config, inputs, context, shown)
    if done is None:
        return None
    stage1 = load_tensors(context.uri(first["weights"]), first["sha256"], config)
    stage2 = load_tensors(context.uri(done.values["weights"]), done.values["sha256"], config)
    student, digests = export_student(config, stage1, stage2, context)
    values = {**done.values, "student": student, "model": student_words(config)}
    return StepOutputs(values, {**done.digests, **digests}, done.work)


def _train(
    stage: StageName,
    config: DistillConfig,
    inputs: StageInputs,
    context: StepContext,
    shown: Shown,
) -> StepOutputs | None:
    folder, tell = context.uri(context.key()), partial(shown.event, stage)
    result = train_stage(stage, config, inputs, folder, context.stop, on_event=tell)
    if not result.complete:
        return None
    key = context.key(WEIGHTS_KEY)
    digest = digest_of(context.storage, key)
    values = {"weights": key, "sha256": digest}
    return StepOutputs(values, {key: digest}, {"unit": "step", "count": result.steps})


def _evaluate(config: DistillConfig, shown: Shown, context: StepContext) -> StepOutputs | None:
    return evaluate_student(config, context, partial(shown.count, context.name))


def _generate(config: DistillConfig, shown: Shown, context: StepContext) -> StepOutputs | None:
    told: Mapping[str, str] = context.inputs["stage2"]["student"]
    student = {name: context.address(value) for name, value in told.items()}
    run = RunConfig(
        system=config.student_system,
        preset=config.student_preset,
        manifest=context.address(context.inputs["conditions"]["heldout"]),
        out=context.uri(context.key()),
        seed=config.seed,
        model=student_words(config) | {"weights": student},
        engine=config.train.engine,
        workers=config.targets.workers,
        cluster=config.cluster,
        s3=config.s3,
    )
    return _rows_made(
        generate(run, stop=context.stop, **_display(shown, context.name)), context, "dataset"
    )


def _display(shown: Shown, step: str) -> dict[str, Any]:
    maker = shown.rows(step)
    return {} if maker is None else {"make_progress": maker}


def _rows_made(result: GenerateResult, context: StepContext, name: str) -> StepOutputs | None:
    """Outputs of a step that is a run of the generation engine; None when it was stopped."""
    state = result.state
    if result.stopped:
        raise Fatal(f"stopped early: {result.stopped}", stage=context.name)
    if not result.complete:
        return None
    if not state.counts["done"]:
        reasons = ", ".join(f"{reason} {n}" for reason, n in state.reasons.most_common(3))
        raise Fatal(
            f"none of {result.plan.rows} items could be made ({reasons})",
            stage=context.name,
            remedy=f"geco status {context.uri(context.key())}",
        )
    run = context.key(RUN_KEY)
    values = {name: context.key(), "rows": result.plan.rows, "done": state.counts["done"]}
    values |= {"failed": state.failed}
    work = {"unit": "item", "count": result.plan.rows}
    return StepOutputs(values, {run: digest_of(context.storage, run)}, work)


def _train_manifest(config: DistillConfig, context: StepContext) -> str:
    """Address of the training images; a manifest of the user's may have moved since it was read."""
    return config.conditions.manifest or context.address(context.inputs["conditions"]["train"])
