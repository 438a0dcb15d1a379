"""The recipe of the micro `crm` system.

Stages, each resumable, each a pure function of seeds and the configuration:

    cache -> { views | ccm | reconstructor } -> samples -> finetune -> render -> export

The two diffusion stages and the reconstructor are independent: coordinate maps are learnt from true
views, the reconstructor from true views and maps. `finetune` continues the reconstructor on a
mixture of true inputs and what the two stages made of training conditions; `render` goes on with
renders of its meshes as the published training does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from geco_core.training.cache import Progress
from geco_core.training.crm_examples import CrmExamples
from geco_core.training.crm_frames import CrmFramesTask, CrmFramesTaskConfig, Stage
from geco_core.training.crm_reconstructor import CrmReconstructorTask
from geco_core.training.crm_render_task import CrmRenderTask
from geco_core.training.crm_samples import sample_examples
from geco_core.training.crm_workspace import CrmWorkspace
from geco_core.training.loop import LoopConfig, Report, train
from geco_core.training.stages import check_stage, save_stage

# Stages of a wave run at once, each as a process of one thread.
WAVES = (
    ("cache",),
    ("views", "reconstructor"),
    ("ccm",),
    ("samples",),
    ("finetune",),
    ("render",),
)
STAGES = tuple(stage for wave in WAVES for stage in wave)


def run_crm_stage(
    stage: str,
    space: CrmWorkspace,
    report: Report,
    evaluated: Report,
    progress: Progress,
    processes: int = 2,
) -> None:
    """Run one stage to its end; a finished stage returns at once.

    Raises `Fatal` on an unknown stage.
    """
    check_stage(stage, STAGES)
    if stage != "cache" and space.weights(stage).is_file():
        return
    train_examples, heldout = space.caches(processes, progress)
    if stage == "cache":
        return
    runners: dict[str, Callable[[], dict[str, Tensor]]] = {
        "views": lambda: _frames(space, "views", train_examples, heldout, report, evaluated),
        "ccm": lambda: _frames(space, "ccm", train_examples, heldout, report, evaluated),
        "reconstructor": lambda: _reconstructor(space, train_examples, heldout, report, evaluated),
        "samples": lambda: _samples(space, train_examples, heldout, progress),
        "finetune": lambda: _finetune(space, train_examples, heldout, report, evaluated),
        "render": lambda: _render(space, train_examples, heldout, report, evaluated),
    }
    save_stage(space.weights(stage), runners[stage]())


def _frames(
    space: CrmWorkspace,
    stage: Stage,
    train_examples: CrmExamples,
    heldout: CrmExamples,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    recipe, model = space.recipe, space.new_diffusion(train_examples)
    loop: LoopConfig = getattr(recipe, stage)
    config: CrmFramesTaskConfig = getattr(recipe, f"{stage}_task")
    task = CrmFramesTask(
        stage,
        getattr(model, stage),
        model.encoders,
        train_examples,
        heldout,
        replace(config, batch_size=loop.batch_size, seed=recipe.seed),
        recipe.sampler,
    )
    return train(task, replace(loop, seed=recipe.seed), space.folder / stage, report, evaluated)


def _reconstructor(
    space: CrmWorkspace,
    train_examples: CrmExamples,
    heldout: CrmExamples,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    recipe = space.recipe
    config = replace(
        recipe.reconstructor_task, batch_size=recipe.reconstructor.batch_size, seed=recipe.seed
    )
    task = CrmReconstructorTask(space.new_reconstructor(), train_examples, heldout, config)
    loop = replace(recipe.reconstructor, seed=recipe.seed)
    return train(task, loop, space.folder / "reconstructor", report, evaluated)


def _samples(
    space: CrmWorkspace, train_examples: CrmExamples, heldout: CrmExamples, progress: Progress
) -> dict[str, Tensor]:
    """`SPLIT_views` and `SPLIT_ccms`, see `CrmFrames`."""
    model, recipe = space.trained_diffusion(train_examples), space.recipe
    made: dict[str, Tensor] = {}
    for split, examples, wanted in (
        ("train", train_examples, recipe.sample_rows),
        ("heldout", heldout, recipe.heldout_samples),
    ):
        count, folder = min(wanted, len(examples)), space.folder / "samples" / split
        frames = sample_examples(model, examples, count, folder, progress)
        made |= {f"{split}_views": frames.views, f"{split}_ccms": frames.ccms}
    return made


def _finetune(
    space: CrmWorkspace,
    train_examples: CrmExamples,
    heldout: CrmExamples,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    seed, loop = space.recipe.seed + 2, space.recipe.finetune
    config = replace(space.recipe.finetune_task, batch_size=loop.batch_size, seed=seed)
    task = CrmReconstructorTask(
        space.trained_reconstructor("reconstructor"),
        train_examples,
        heldout,
        config,
        space.samples("train"),
    )
    return train(task, replace(loop, seed=seed), space.folder / "finetune", report, evaluated)


def _render(
    space: CrmWorkspace,
    train_examples: CrmExamples,
    heldout: CrmExamples,
    report: Report,
    evaluated: Report,
) -> dict[str, Tensor]:
    seed, loop = space.recipe.seed + 3, space.recipe.render
    task = CrmRenderTask(
        space.trained_reconstructor("finetune"),
        train_examples,
        heldout,
        replace(space.recipe.render_task, batch_size=loop.batch_size, seed=seed),
        space.samples("train"),
        space.samples("heldout"),
    )
    return train(task, replace(loop, seed=seed), space.folder / "render", report, evaluated)
