"""`geco distill --plan`: the graph, what is done, what will run and what it will cost, without
doing anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geco_core.config.distill import DistillConfig
from infra.checkpoints import StoredCheckpoints
from infra.plan import read_run
from infra.run_state import RunState, read_state
from infra.stages import work_folder
from infra.storage import Storage, open_storage
from infra.training_folder import read_events
from workflows.dag import Step
from workflows.dag_record import Standing, fingerprints, survey
from workflows.distill_evaluate import VARIANTS
from workflows.distill_events import steps_per_s
from workflows.distill_record import refuse_generation
from workflows.distill_steps import build_steps
from workflows.distill_student import check_teacher
from workflows.words import counted

MAX_REASONS = 6
TRAINING = ("stage1", "stage2")
ENGINE = ("targets", "generate")


@dataclass(frozen=True)
class Cost:
    """Seconds per unit of work and where the number comes from; None when nobody knows."""

    seconds: float | None
    source: str


@dataclass(frozen=True)
class StepPlan:
    """What a command would do about a step.

    Attributes:
        name, needs: of the step.
        standing: what stands of it in the run folder.
        unit: of its work: `step`, `item`, `object`, `sample`.
        total, left: units of all and units to do; total is None where nobody knows it yet.
        cost: of a unit.
        will_run: whether it runs: it does when it is not done.
    """

    name: str
    needs: tuple[str, ...]
    standing: Standing
    unit: str
    total: int | None
    left: int | None
    cost: Cost
    will_run: bool

    @property
    def seconds(self) -> float | None:
        """Estimated seconds; None when unknown."""
        if not self.will_run:
            return 0.0
        if self.left is None or self.cost.seconds is None:
            return None
        return self.left * self.cost.seconds


def preview(config: DistillConfig) -> str:
    """The plan as text; it needs no run folder.

    Raises:
        ConfigError: a teacher, student, manifest or run folder that `geco distill` refuses too.
        Fatal: a record in the run folder is damaged.
    """
    licences = check_teacher(config)
    storage = open_storage(config.out, config.s3) if config.out else None
    if storage is not None:
        refuse_generation(storage)
    plans = plan_steps(config, storage)
    teacher = f"{config.teacher.system}-{config.teacher.preset}"
    lines = [
        f"teacher   {teacher}, licences {', '.join(licences) or 'none'}",
        f"student   {config.student_system}-{config.student_preset}",
        "",
        *_table(plans),
        "",
        f"estimated {_total(plans)}",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def plan_steps(config: DistillConfig, storage: Storage | None) -> list[StepPlan]:
    """What a command would do, in the order of the graph.

    Args:
        config: of the distillation.
        storage: of the run folder; None where there is none yet.

    Raises:
        ConfigError, Fatal: as `build_steps` and the records.
    """
    steps = build_steps(config)
    prints = fingerprints(steps)
    found = survey(storage, steps) if storage is not None else {}
    plans: list[StepPlan] = []
    for step in steps:
        standing = found.get(step.name, Standing("open"))
        total = units(config, step.name, storage)
        unit = {"conditions": "object", "evaluate": "sample"}.get(
            step.name, "item" if step.name in ENGINE else "step"
        )
        folder = work_folder(step.name, prints[step.name])
        done, cost = _so_far(storage, step, folder, standing)
        left = None if total is None else max(0, total - done)
        plans.append(
            StepPlan(
                name=step.name,
                needs=step.needs,
                standing=standing,
                unit=unit,
                total=total,
                left=0 if standing.done else left,
                cost=cost,
                will_run=not standing.done,
            )
        )
    return plans


def units(config: DistillConfig, step: str, storage: Storage | None) -> int | None:
    """Units of work of a step; None where only its inputs tell."""
    conditions = config.conditions
    known: Mapping[str, int | None] = {
        "conditions": conditions.heldout + (0 if conditions.manifest else conditions.objects),
        "targets": manifest_rows(config, storage) if conditions.manifest else conditions.objects,
        "stage1": config.stage1_train.steps,
        "stage2": config.stage2_train.steps,
        "evaluate": len(VARIANTS) * conditions.heldout * len(config.evaluate_seeds),
        "generate": conditions.heldout,
    }
    return known[step]


def manifest_rows(config: DistillConfig, storage: Storage | None) -> int | None:
    """Rows of the user's manifest, once a targets run has read it."""
    if storage is None:
        return None
    steps = build_steps(config)
    folder = work_folder("targets", fingerprints(steps)["targets"])
    record = read_run(open_storage(f"{storage.uri}/{folder}", config.s3))
    return int(record["manifest"]["rows"]) if record is not None else None


def _so_far(
    storage: Storage | None, step: Step, folder: str, standing: Standing
) -> tuple[int, Cost]:
    """Units made by commands that did not finish the step, and what a unit costs."""
    if storage is not None and step.name in TRAINING:
        below = _below(storage, folder)
        done = max(StoredCheckpoints(below, 1).steps(), default=0)
        pace = steps_per_s(read_events(below))
        if pace is not None:
            source = f"measured over the last {counted(pace[1], 'report')} of this step"
            return done, Cost(1.0 / pace[0], source)
        return done, _recorded(standing)
    if storage is not None and step.name in ENGINE:
        state = read_state(_below(storage, folder))
        if state.attempted and state.seconds.get("wall", 0.0) > 0:
            return state.rows_done, _engine_cost(state)
        return state.rows_done, _recorded(standing)
    return 0, _recorded(standing)


def _engine_cost(state: RunState) -> Cost:
    seconds = state.seconds["wall"] / state.attempted
    return Cost(seconds, f"worker time, measured over {counted(state.attempted, 'item')}")


def _recorded(standing: Standing) -> Cost:
    """The rate of the last time the step was finished, with whatever settings."""
    record = standing.record
    count = int(record.work.get("count", 0)) if record is not None else 0
    if record is None or not count or record.seconds <= 0:
        return Cost(None, "unknown: not measured in this run folder yet")
    other = "" if standing.state != "changed" else ", with other settings"
    source = f"measured over {counted(count, str(record.work.get('unit', 'unit')))}{other}"
    return Cost(record.seconds / count, source)


def _below(storage: Storage, folder: str) -> Storage:
    settings = getattr(storage, "config", None)
    uri = f"{storage.uri.rstrip('/')}/{folder}"
    return open_storage(uri, settings) if settings is not None else open_storage(uri)


def _table(plans: Sequence[StepPlan]) -> list[str]:
    names = max(len(plan.name) for plan in plans)
    needs = max(len(", ".join(plan.needs)) for plan in plans)
    lines = [f"{'step':<{names}}  {'needs':<{needs}}  state"]
    indent = " " * (names + needs + 4)
    for plan in plans:
        head = f"{plan.name:<{names}}  {', '.join(plan.needs):<{needs}}  "
        if not plan.will_run:
            record = plan.standing.record
            took = f", took {_hours(record.seconds)}, {record.finished_at}" if record else ""
            lines.append(f"{head}done{took}")
            continue
        lines.append(f"{head}will run: {_work(plan)}, {_time(plan)}")
        lines.append(f"{indent}rate {plan.cost.source}")
        lines += [f"{indent}because {reason}" for reason in plan.standing.why[:MAX_REASONS]]
    return lines


def _work(plan: StepPlan) -> str:
    if plan.total is None or plan.left is None:
        return f"{plan.unit}s: unknown before the manifest is read"
    if plan.left < plan.total:
        return f"{plan.left:,} of {counted(plan.total, plan.unit)} left"
    return counted(plan.total, plan.unit)


def _time(plan: StepPlan) -> str:
    if plan.seconds is None or plan.cost.seconds is None:
        return "time unknown"
    return f"{_hours(plan.seconds)} at {plan.cost.seconds:.3g} s per {plan.unit}"


def _total(plans: Sequence[StepPlan]) -> str:
    running = [plan for plan in plans if plan.will_run]
    if not running:
        return "nothing: everything is done"
    known = sum(plan.seconds or 0.0 for plan in running)
    unknown = [plan.name for plan in running if plan.seconds is None]
    if len(unknown) == len(running):
        return "unknown: no step that will run has a rate"
    rest = f", and {', '.join(unknown)}, which nobody knows" if unknown else ""
    return f"{_hours(known)} of work{rest}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} hours" if seconds >= 3600 else f"{seconds:.3g} s"
