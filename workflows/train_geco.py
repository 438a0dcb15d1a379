"""`geco train-micro geco`: the distillation of the shipped teacher chain, as small files.

What `geco distill --preset micro` leaves in the folder becomes differences to the teacher's
weights. Running it again goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geco_core.errors import Fatal
from geco_core.training.export import PARTS, export_differences, install_weights
from workflows.distill import distill, distill_config

EXPORTING_STEP = "stage2"


def train_geco(folder: Path, overrides: Sequence[str], *, install: bool) -> Path:
    """Distil, then export.

    Args:
        folder: the distillation's run folder.
        overrides: `key.sub=value` on the preset `micro` of `geco distill`.
        install: also copy the weights into the package and pin their digests in the preset.

    Returns:
        The folder that holds the exported safetensors.

    Raises:
        ConfigError: a bad override, or a folder of another run.
        Fatal: a step failed or was stopped; the same command goes on.
    """
    config = distill_config("micro", None, overrides, str(folder))
    result = distill(config)
    if not result.dag.complete:
        raise Fatal(
            "the distillation did not come to its end",
            stage="train",
            remedy=f"geco distill --out {folder} says why; the same command goes on",
        )
    outputs = result.dag.records[EXPORTING_STEP].outputs
    student = {part: folder / outputs["student"][part] for part in PARTS}
    target = export_differences(student, folder / "export")
    if install:
        install_weights(target, "geco")
    return target
