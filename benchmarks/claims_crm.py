"""The claims of CRM in miniature: maps against none, convolutions against a transformer, quality.

    python -m benchmarks.claims_crm --part convergence --cache runs/micro-crm/cache/train
    python -m benchmarks.claims_crm --part quality --sheet docs/images/crm_contact_sheet.png

`convergence` trains three reconstructors side by side on one thread, by turns of a few CPU seconds:
CRM's, CRM's without coordinate maps, and InstantMesh's transformer. All see the same pictures,
points and batches under the same loss, each at the rate and colour weights of its own recipe; the
rate rises and falls with the CPU time spent. `quality` measures the shipped chain. Both use
held-out objects that no training and no choice has seen; each replaces its own part of the results
and leaves the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import RESULTS, describe_machine, save_result
from benchmarks.readme import replaced
from geco_core.config.models import ViewRigConfig
from geco_core.evaluate.convergence import Point, RaceConfig, curves, race, seconds_to
from geco_core.evaluate.crm_learners import MAPS, NO_MAPS, TRANSFORMER, crm_learners
from geco_core.evaluate.crm_quality import (
    GENERATED,
    STAGES,
    TRUE,
    CrmChain,
    Made,
    chain_floors,
    measure_chain,
    summarise_chain,
)
from geco_core.evaluate.crm_sheet import save_contact_sheet, sheet_row
from geco_core.evaluate.crm_truth import CrmHeldOut, load_crm_heldout
from geco_core.evaluate.summary import paired, summarise
from geco_core.systems.crm import build_crm
from geco_core.training.crm_examples import CrmCacheSpec, CrmExamples, ensure_crm_examples
from geco_core.training.crm_workspace import CrmRecipeConfig, CrmWorkspace

CLAIMS = ("coordinate maps improve geometry", "convolutions learn faster than the transformer")
PAIRS = ((MAPS, NO_MAPS), (MAPS, TRANSFORMER), (NO_MAPS, TRANSFORMER))
WANTED = ((TRUE, "iou", 0.88), (TRUE, "render_psnr", 25.0), (GENERATED, "iou", 0.65))
RIG = ViewRigConfig(view_size=64)  # of the renders: radius 4, field of view 30 degrees
SHEET_OBJECTS = 12

Say = Callable[[str], None]
Part = dict[str, Any]


def main() -> int:
    """Measure the chosen parts, print their tables, record them."""
    options = _options()
    torch.set_num_threads(1)
    about = {"first": options.first, "machine": describe_machine()}
    if options.part != "quality":
        space = CrmWorkspace(options.cache.parent.parent, CrmRecipeConfig())
        examples = training_examples(options.cache, space.recipe.examples, _say)
        truth = load_crm_heldout(options.objects or 256, first=options.first)
        config = RaceConfig(budget_s=60.0 * options.minutes)
        part = convergence(space, examples, truth, config, _say) | about
        record(options.out, "convergence", part)
        show("claims_crm_convergence", convergence_table(part), options.readme)
    if options.part != "convergence":
        system = build_crm("micro", options.overrides)
        chain = CrmChain(*system.models, system.config.extraction)
        truth = load_crm_heldout(options.objects or 64, first=options.first)
        part, drawn = quality(chain, truth, _say)
        record(options.out, "quality", part | about)
        show("claims_crm_quality", quality_table(part | about), options.readme)
        if options.sheet:
            save_contact_sheet(drawn, options.sheet)
    return 0


def show(name: str, text: str, readme: Path | None) -> None:
    """Print a table, and put it into a file where one is given."""
    print(text, end="\n\n")
    if readme:
        readme.write_text(replaced(readme.read_text(), name, text))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("quality", "convergence", "both"), default="both")
    parser.add_argument("--objects", type=int, help="held-out ones: 256, for quality 64")
    parser.add_argument("--first", type=int, default=1000, help="index of the first one")
    parser.add_argument("--minutes", type=float, default=5.0, help="of CPU time per learner")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/micro-crm/cache/train"),
        help="training examples, made when missing; those of train-micro will do",
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "claims_crm.json")
    parser.add_argument("--readme", type=Path, help="file whose tables are replaced")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the first objects")
    parser.add_argument("overrides", nargs="*", help="key.sub=value on the micro preset")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def training_examples(folder: Path, count: int, say: Say) -> CrmExamples:
    """The examples of the recipe, made where there are none. Raises ValueError where others are."""
    spec = CrmCacheSpec(examples=count)
    ready = folder / "READY.json"
    if ready.is_file() and json.loads(ready.read_text()) != asdict(spec):
        raise ValueError(f"{folder} holds other examples: choose another --cache")
    return ensure_crm_examples(folder, spec, 2, lambda done, of: say(f"{done}/{of} examples"))


def record(path: Path, name: str, part: Part) -> None:
    """Replace one part of the results; the other stays, with the machine it was taken on."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    parts: Part = {key: kept[key] for key in ("convergence", "quality") if key in kept}
    save_result("claims_crm", parts | {name: part}, path)


def convergence(
    space: CrmWorkspace, examples: CrmExamples, truth: CrmHeldOut, config: RaceConfig, say: Say
) -> Part:
    """The three learners over one budget: curves, the end over all objects, paired differences."""
    learners = crm_learners(space, examples, truth)
    points = race(learners, config, lambda point: say(_line(point)))
    last = {point.name: point.scores for point in points}  # the last of each stays
    return asdict(config) | {
        "objects": len(truth),
        "objects_at_marks": min(len(point.scores) for point in points),
        "batch_size": space.recipe.reconstructor.batch_size,
        "parameters": {x.name: sum(p.numel() for p in x.task.model.parameters()) for x in learners},
        "learning_rate": {x.name: x.loop.learning_rate for x in learners},
        "curves": curves(points),
        "iou": {name: summarise(scores, 0).to_json() for name, scores in last.items()},
        "gaps": {f"{a} - {b}": paired(last[a], last[b], 0).to_json() for a, b in PAIRS},
    }


def _line(point: Point) -> str:
    score = sum(point.scores) / len(point.scores)
    return f"{point.name}: {point.spent_s:.1f} CPU s, {point.steps} steps, IoU {score:.4f}"


def verdicts(part: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    """Claim, whether it holds, and the numbers that decide.

    Maps: the paired interval at the end is above 0. Speed: that, and CRM has reached earlier what
    the transformer reaches at the end of the budget.
    """
    gaps, found = part["gaps"], part["curves"]
    maps, learner = gaps[f"{MAPS} - {NO_MAPS}"], gaps[f"{MAPS} - {TRANSFORMER}"]
    alone = gaps[f"{NO_MAPS} - {TRANSFORMER}"]
    pairs = list(zip(found[MAPS], found[TRANSFORMER], strict=True))
    ahead = sum(a["score"] > b["score"] for a, b in pairs)
    end = found[TRANSFORMER][-1]
    sooner = seconds_to(found[MAPS], end["score"]) < end["cpu_s"]
    with_maps, without = (_seconds(found[name], end["score"]) for name in (MAPS, NO_MAPS))
    iou = {name: f"{summary['mean']:.3f}" for name, summary in part["iou"].items()}
    ablation = f"IoU {iou[NO_MAPS]} → {iou[MAPS]}, {_gap(maps)} at equal CPU time"
    speed = (
        f"IoU {iou[TRANSFORMER]} → {iou[MAPS]}, {_gap(learner)}; ahead at {ahead} of {len(pairs)} "
        f"marks; reaches what the transformer has learnt after {end['cpu_s']:.0f} CPU s within "
        f"{with_maps}, without maps within {without} (then {_gap(alone)} at the end)"
    )
    return [
        (CLAIMS[0], maps["low"] > 0, ablation),
        (CLAIMS[1], sooner and learner["low"] > 0, speed),
    ]


def _seconds(curve: Sequence[Mapping[str, float]], score: float) -> str:
    seconds = seconds_to(curve, score)
    return "none of the marks" if seconds == float("inf") else f"{seconds:.0f} s"


def _gap(summary: Mapping[str, float]) -> str:
    return f"{summary['mean']:+.3f} [{summary['low']:+.3f}, {summary['high']:+.3f}]"


def convergence_table(part: Mapping[str, Any]) -> str:
    """Markdown: the claims, then IoU against CPU seconds."""
    lines = ["| claim | micro | |", "|---|---|---|"]
    for claim, holds, numbers in verdicts(part):
        lines.append(f"| {claim} | {numbers} | {'holds' if holds else '**does not hold**'} |")
    marks = [f"{mark['cpu_s']:.0f} s" for mark in part["curves"][MAPS]]
    heads = ["IoU after CPU time", "parameters", "steps", *marks, f"all {part['objects']}"]
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, curve in part["curves"].items():
        cells = [f"{part['parameters'][name] / 1e6:.2f} M", f"{curve[-1]['steps']:.0f}"]
        cells += [f"{mark['score']:.3f}" for mark in curve] + [f"{part['iou'][name]['mean']:.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    about = (
        f"The first {part['objects_at_marks']} of {part['objects']} held-out objects at the marks; "
        f"brackets: 95% intervals of paired differences over all; batches of "
        f"{part['batch_size']}, one run per learner, one thread of {_machine(part)}."
    )
    return "\n".join([*lines, "", about])


def quality(chain: CrmChain, truth: CrmHeldOut, say: Say) -> tuple[Part, list[np.ndarray]]:
    """Summaries, floors and what was wanted; rows of the contact sheet."""
    drawn: list[np.ndarray] = []

    def heard(index: int, made: Made) -> None:
        say(f"{index + 1}/{len(truth)}")
        if index < SHEET_OBJECTS:
            drawn.append(sheet_row(made, truth.seeds[index], RIG))

    chain.diffusion.eval()
    chain.reconstructor.eval()
    rows = measure_chain(chain, truth, RIG, heard)
    summary = {
        source: {name: values.to_json() for name, values in metrics.items()}
        for source, metrics in summarise_chain(rows).items()
    }
    met = {
        f"{metric} from {source} >= {least}": summary[source][metric]["mean"] >= least
        for source, metric, least in WANTED
    }
    part = {"objects": len(truth), "summary": summary, "floors": chain_floors(truth, RIG)}
    return part | {"met": met}, drawn


def quality_table(part: Mapping[str, Any]) -> str:
    """Markdown: metrics by source with floors, then seconds per stage."""
    heads = ("IoU", "Chamfer", "renders, dB", "views, dB", "depth error")
    lines = [f"| reconstructed from | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for source, metrics in part["summary"].items():
        lines.append(f"| {source} | {' | '.join(_cells(metrics))} |")
    f = part["floors"]
    lines.append(
        f"| floor: the mean object | {f['iou_best_constant']:.3f} | | "
        f"{f['render_psnr_mean_object']:.2f} | {f['view_psnr_mean_object']:.2f} | "
        f"{f['depth_error_mean_object']:.4f} |"
    )
    lines.append(
        f"| floor: empty pictures | | | {f['render_psnr_white']:.2f} | "
        f"{f['view_psnr_grey']:.2f} | |"
    )
    seconds = part["summary"][GENERATED]
    stages = ", ".join(f"{stage} {seconds[f'{stage}_s']['mean']:.2f} s" for stage in STAGES)
    about = (
        f"{part['objects']} held-out objects, 95% intervals over objects; renders from six cameras "
        f"no network has seen. Per item: {stages}, on one thread of {_machine(part)}."
    )
    return "\n".join([*lines, "", about])


def _cells(metrics: Mapping[str, Mapping[str, float]]) -> Sequence[str]:
    forms = {"iou": ".3f", "chamfer": ".4f", "render_psnr": ".2f", "view_psnr": ".2f"}
    forms["depth_error"] = ".4f"
    return [
        f"{v['mean']:{form}} [{v['low']:{form}}, {v['high']:{form}}]"
        if (v := metrics.get(name))
        else ""
        for name, form in forms.items()
    ]


def _machine(part: Mapping[str, Any]) -> str:
    return f"{part['machine']['cpu']}, torch {part['machine']['torch']}"


if __name__ == "__main__":
    sys.exit(main())
