"""The step `evaluate`: teacher and student on held-out objects, and the ablation table.

Rows of a variant are kept as soon as it is measured, so that a command that is killed costs at most
one variant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from geco_core.config.distill import DistillConfig
from geco_core.config.models import SamplerConfig
from geco_core.distill.networks import sibling
from geco_core.errors import Fatal
from geco_core.evaluate.distilled import (
    METRICS,
    Variant,
    evaluate_variants,
    summarise_variants,
)
from geco_core.evaluate.micro_quality import load_heldout
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.systems.chain import InstantMeshChain, load_chain
from infra.stages import digest_of, put_stage_file, put_stage_json, read_json
from infra.weights import cache_folder, local_weights
from workflows.dag import StepContext, StepOutputs
from workflows.distill_student import (
    load_teacher,
    load_tensors,
    student_config,
    teacher_config,
    unet_tensors,
)

TEACHER, UNDISTILLED, STAGE1, BOTH = "teacher", "undistilled", "stage1", "stage1+2"
VARIANTS = (TEACHER, UNDISTILLED, STAGE1, BOTH)
ABOUT: Mapping[str, str] = {
    TEACHER: "the teacher with its own sampler",
    UNDISTILLED: "the teacher with one step of its own sampler: what one step gives undistilled",
    STAGE1: "the distilled generator before the teacher's reconstructor",
    BOTH: "the distilled generator before the reconstructor that was tuned to it",
}
HEADINGS: Mapping[str, str] = {
    "view_psnr": "views PSNR dB",
    "view_feature": "views feature distance",
    "iou": "volume IoU",
    "chamfer": "Chamfer",
    "render_psnr": "renders PSNR dB",
    "network_evaluations": "network evaluations",
    "multiview_s": "views s",
}
_FORMATS: Mapping[str, str] = {
    "view_psnr": ".2f",
    "view_feature": ".4f",
    "iou": ".3f",
    "chamfer": ".4f",
    "render_psnr": ".2f",
    "network_evaluations": ".0f",
    "multiview_s": ".3g",
}
HIGHER_IS_BETTER = frozenset({"view_psnr", "iou", "render_psnr"})


def evaluate_student(
    config: DistillConfig, context: StepContext, progress: Callable[[int, int], object]
) -> StepOutputs | None:
    """Measure the variants that are not measured yet, then write the table.

    Args:
        config: of the distillation.
        context: of the step.
        progress: hears how many variants of all are measured.

    Returns:
        `table` and `markdown`: keys of the ablation table as JSON and as text; None when stopped.
    """
    rows: list[dict[str, Any]] = []
    chains: dict[str, Variant] | None = None
    truth = None
    for number, name in enumerate(VARIANTS):
        progress(number, len(VARIANTS))
        kept = read_json(context.storage, context.key(f"rows-{name}.json"))
        if kept is None:
            if context.stop.requested:
                return None
            if chains is None:
                chains = make_variants(config, context)
                truth = load_heldout(config.conditions.heldout, teacher_config(config))
            assert truth is not None
            measured = evaluate_variants(
                [chains[name]], truth, teacher_config(config), config.evaluate_seeds, lambda _: None
            )
            kept = {"rows": measured}
            put_stage_json(context.storage, context.key(f"rows-{name}.json"), kept)
        rows += kept["rows"]
    progress(len(VARIANTS), len(VARIANTS))
    return _publish(config, context, rows)


def make_variants(config: DistillConfig, context: StepContext) -> dict[str, Variant]:
    """The chains to be compared, on the device of the teacher's configuration."""
    wanted = teacher_config(config)
    teacher = load_teacher(config)
    student = load_student(config, context)
    device = device_of(wanted.device)
    for model in (teacher.multiview, teacher.reconstructor, student.multiview,
                  student.reconstructor):  # fmt: skip
        model.eval().to(device)
    one_step = student_config(config, {}).sampler
    before, after = _mesh_reconstructor(teacher), _mesh_reconstructor(student)
    first = student.multiview
    if config.stage2.train_generator:  # Stage II has changed it since
        told = context.inputs["stage1"]
        tensors = load_tensors(context.uri(told["weights"]), told["sha256"], config)
        first = sibling(teacher.multiview)
        first.unet.load_state_dict(unet_tensors(tensors))
    chains: list[tuple[str, Any, InstantMesh, SamplerConfig]] = [
        (TEACHER, teacher.multiview, before, wanted.sampler),
        (UNDISTILLED, teacher.multiview, before, replace(wanted.sampler, steps=1)),
        (STAGE1, first, before, one_step),
        (BOTH, student.multiview, after, one_step),
    ]
    return {chain[0]: Variant(*chain) for chain in chains}


def load_student(config: DistillConfig, context: StepContext) -> InstantMeshChain:
    """The distilled chain, from the files that `geco generate` would load. Raises `Fatal`."""
    told = context.inputs["stage2"]["student"]
    local = {
        name: local_weights(context.uri(value), config.s3, cache_folder())
        if value.startswith("stages/")
        else value
        for name, value in told.items()
    }
    return load_chain(student_config(config, local), torch.float32)


def device_of(name: str) -> torch.device:
    """The device of a configuration's `device`: `auto` takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def markdown_table(summary: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The ablation table: means with 95% intervals, arrows for the better direction."""
    names = [name for name in HEADINGS if any(name in metrics for metrics in summary.values())]
    lines = [
        "| variant | " + " | ".join(map(heading, names)) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for variant, metrics in summary.items():
        cells = [cell(name, metrics[name]) if name in metrics else "" for name in names]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(name: str, value: Mapping[str, float]) -> str:
    """`12.30 (11.90 to 12.80)`; the mean alone where there is no interval."""
    mean = number(name, value["mean"])
    if "low" not in value:
        return mean
    return f"{mean} ({number(name, value['low'])} to {number(name, value['high'])})"


def number(name: str, value: float) -> str:
    """A value of a metric with as many digits as it is worth."""
    return format(value, _FORMATS[name])


def heading(name: str) -> str:
    """Column title of a metric, with an arrow for the better direction."""
    if name not in METRICS:
        return HEADINGS[name]
    return f"{HEADINGS[name]} {'↑' if name in HIGHER_IS_BETTER else '↓'}"


def _publish(
    config: DistillConfig, context: StepContext, rows: Sequence[dict[str, Any]]
) -> StepOutputs:
    summary = summarise_variants(rows, against=TEACHER)
    content = {
        "variants": summary,
        "about": dict(ABOUT),
        "against": TEACHER,
        "objects": config.conditions.heldout,
        "seeds": list(config.evaluate_seeds),
    }
    table, text = context.key("ablation.json"), context.key("ablation.md")
    put_stage_json(context.storage, table, content)
    put_stage_file(context.storage, text, markdown_table(summary).encode())
    digests = {key: digest_of(context.storage, key) for key in (table, text)}
    count = len(VARIANTS) * config.conditions.heldout * len(config.evaluate_seeds)
    return StepOutputs(
        {"table": table, "markdown": text}, digests, {"unit": "sample", "count": count}
    )


def _mesh_reconstructor(chain: InstantMeshChain) -> InstantMesh:
    if not isinstance(chain.reconstructor, InstantMesh):
        raise Fatal(
            "the ablation table needs a mesh reconstructor", stage="evaluate",
            remedy="use a teacher with reconstructor.kind=mesh",
        )  # fmt: skip
    return chain.reconstructor
