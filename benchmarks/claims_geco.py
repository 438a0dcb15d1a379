"""The claims of GECO in miniature: the shipped teacher chain against the shipped students.

    python -m benchmarks.claims_geco --objects 64 --json --readme README.md

Held-out procedural objects that no model has seen, three seeds each. Four chains: the teacher with
75 DDIM steps; the same networks with one step; the distilled generator before the teacher's
reconstructor (Stage I); the distilled generator before its own (Stages I and II). Seconds are
measured item by item, the chains taking turns, as `geco generate` runs them on a CPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_machine, save_result
from benchmarks.readme import replaced
from geco_core.config.distill import DistillConfig
from geco_core.config.load import load, preset_path
from geco_core.config.models import InstantMeshConfig, SamplerConfig
from geco_core.config.run import model_overrides
from geco_core.evaluate.distilled import Variant, evaluate_variants, summarise_variants
from geco_core.evaluate.micro_quality import HeldOut, load_heldout
from geco_core.multiview.generate import views_of_images
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.systems.chain import load_chain

TEACHER, SINGLE, STAGE1, BOTH = "teacher, 75 steps", "teacher, one step", "Stage I", "Stages I + II"
CLAIMS = (
    "one step instead of 75",
    "one step fails undistilled, Stage I repairs it",
    "Stage II improves on Stage I",
    "close to or above the 75-step teacher",
)
CLEAR_DB, CLEAR_IOU, FASTER = 1.0, 0.03, 20.0

COLUMNS = (
    ("view_psnr", ".2f"),
    ("view_feature", ".4f"),
    ("iou", ".3f"),
    ("chamfer", ".4f"),
    ("render_psnr", ".2f"),
    ("network_evaluations", ".0f"),
)
HEADS = (
    "views, dB",
    "feature distance",
    "IoU",
    "Chamfer",
    "renders, dB",
    "network evaluations",
    "view seconds",
)

Summary = Mapping[str, Mapping[str, Mapping[str, float]]]


def main() -> int:
    """Measure, print the table, optionally record it and write it into the README."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=64, help="held-out objects")
    parser.add_argument("--first", type=int, default=1000, help="index of the first one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--timed", type=int, default=4, help="objects timed one by one")
    parser.add_argument("--json", action="store_true", help="record results/claims_geco.json")
    parser.add_argument("--readme", type=Path, help="file whose table is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config, variants = shipped_variants()
    truth = load_heldout(options.objects, config, first=options.first)
    seconds = time_variants(variants, truth, options.timed)
    rows = evaluate_variants(
        variants,
        truth,
        config,
        range(options.seeds),
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    summary = summarise_variants(rows, against=TEACHER)
    text = table(summary, seconds, options.objects, options.seeds)
    print(text)
    if options.json:
        content: dict[str, Any] = {
            "summary": summary,
            "seconds_alone": seconds,
            "objects": options.objects,
        }
        content |= {"first": options.first, "seeds": options.seeds}
        content["holds"] = {claim: holds for claim, holds, _ in verdicts(summary, seconds)}
        save_result("claims_geco", content)
    if options.readme:
        options.readme.write_text(replaced(options.readme.read_text(), "claims_geco", text))
    return 0


def shipped_variants() -> tuple[InstantMeshConfig, list[Variant]]:
    """The four chains of the table, and the configuration they share."""
    recipe = load(DistillConfig, preset_path("distill", "micro"))
    teacher = load(
        InstantMeshConfig,
        preset_path("instantmesh", "micro"),
        model_overrides(recipe.teacher.model),
    )
    student = load(InstantMeshConfig, preset_path("geco", "micro"))
    before, after = (load_chain(c, torch.float32) for c in (teacher, student))
    for chain in (before, after):
        chain.multiview.eval()
        chain.reconstructor.eval()
    first, second = before.reconstructor, after.reconstructor
    assert isinstance(first, InstantMesh)
    assert isinstance(second, InstantMesh)
    single: SamplerConfig = replace(teacher.sampler, steps=1)
    return teacher, [
        Variant(TEACHER, before.multiview, first, teacher.sampler),
        Variant(SINGLE, before.multiview, first, single),
        Variant(STAGE1, after.multiview, first, student.sampler),
        Variant(BOTH, after.multiview, second, student.sampler),
    ]


def time_variants(variants: Sequence[Variant], truth: HeldOut, count: int) -> dict[str, float]:
    """Seconds of multi-view generation per item, alone: the fastest of `count` for each."""
    best = dict.fromkeys((v.name for v in variants), float("inf"))
    for i in range(count):
        for variant in variants:
            begun = time.perf_counter()
            views_of_images(variant.multiview, truth.conditions[i : i + 1], [i], variant.sampler)
            best[variant.name] = min(best[variant.name], time.perf_counter() - begun)
    return best


def verdicts(summary: Summary, seconds: Mapping[str, float]) -> list[tuple[str, bool, str]]:
    """Claim, whether it holds, and the numbers that decide."""

    def mean(name: str, metric: str) -> float:
        return summary[name][metric]["mean"]

    def gain(metric: str, before: str, after: str) -> float:
        return mean(after, metric) - mean(before, metric)

    def step(metric: str, form: str, before: str, after: str) -> str:
        return f"{mean(before, metric):{form}} → {mean(after, metric):{form}}"

    faster = seconds[TEACHER] / seconds[BOTH]
    fewer = mean(TEACHER, "network_evaluations") / mean(BOTH, "network_evaluations")
    views = step("view_psnr", ".1f", SINGLE, STAGE1)
    renders = step("render_psnr", ".1f", SINGLE, STAGE1)
    repaired = (
        gain("view_psnr", SINGLE, STAGE1) > CLEAR_DB
        and gain("render_psnr", SINGLE, STAGE1) > CLEAR_DB
        and gain("iou", SINGLE, STAGE1) > CLEAR_IOU
    )
    improved = gain("render_psnr", STAGE1, BOTH) > 0 and (
        gain("iou", STAGE1, BOTH) > 0 or gain("chamfer", STAGE1, BOTH) < 0
    )
    shapes = (
        f"Chamfer {step('chamfer', '.4f', STAGE1, BOTH)}, IoU {step('iou', '.3f', STAGE1, BOTH)}"
    )
    close = max(summary[BOTH][metric]["gap_high"] for metric in ("render_psnr", "iou")) > 0
    gaps = [words.format(_gap(summary[BOTH][metric], form)) for metric, form, words in _GAPS]
    speed = f"{seconds[TEACHER]:.2f} s → {seconds[BOTH]:.3f} s of view generation: {faster:.0f}x"
    return [
        (CLAIMS[0], faster >= FASTER, f"{speed}, {fewer:.0f}x fewer network evaluations"),
        (
            CLAIMS[1],
            repaired,
            f"views {views} dB, renders {renders} dB, IoU {step('iou', '.2f', SINGLE, STAGE1)}",
        ),
        (
            CLAIMS[2],
            improved,
            f"renders {step('render_psnr', '.2f', STAGE1, BOTH)} dB, {shapes}",
        ),
        (CLAIMS[3], close, "; ".join(gaps)),
    ]


_GAPS = (
    ("render_psnr", "+.2f", "renders {} dB"),
    ("iou", "+.3f", "IoU {}"),
    ("chamfer", "+.4f", "Chamfer {}"),
)


def _gap(numbers: Mapping[str, float], form: str) -> str:
    low, high = numbers["gap_low"], numbers["gap_high"]
    return f"{numbers['gap']:{form}} [{low:{form}}, {high:{form}}]"


def table(summary: Summary, seconds: Mapping[str, float], objects: int, seeds: int) -> str:
    """Markdown: the claims, then the chains."""
    lines = ["| claim | micro | |", "|---|---|---|"]
    for claim, holds, numbers in verdicts(summary, seconds):
        lines.append(f"| {claim} | {numbers} | {'holds' if holds else '**does not hold**'} |")
    lines += ["", f"| chain | {' | '.join(HEADS)} |", "|---" * (len(HEADS) + 1) + "|"]
    for name, metrics in summary.items():
        cells = [f"{metrics[metric]['mean']:{form}}" for metric, form in COLUMNS]
        lines.append(f"| {name} | {' | '.join([*cells, f'{seconds[name]:.3f}'])} |")
    machine = describe_machine()
    about = (
        f"{objects} held-out objects, {seeds} seeds; brackets: 95% intervals over objects; renders "
        "from six cameras between those of the rig; one thread of "
        f"{machine['cpu']}, torch {machine['torch']}. `python -m benchmarks.claims_geco` makes "
        "both tables."
    )
    return "\n".join([*lines, "", about])


if __name__ == "__main__":
    sys.exit(main())
