"""Trained micro weights as small safetensors, installed in the package and pinned by digest.

The teacher chain's are float16, the distilled chain's are differences to them, and CRM's take 8
bits each (`geco_core.checkpoints.quantised`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from safetensors.torch import save_file

from geco_core.checkpoints.difference import Base, save_difference
from geco_core.checkpoints.legacy import load_tensors
from geco_core.checkpoints.quantised import save_quantised
from geco_core.checkpoints.safe import load_weights
from geco_core.config import load as config_load
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import Fatal
from geco_core.training.crm_workspace import CrmWorkspace
from geco_core.training.recipe import Workspace

PARTS = ("multiview", "reconstructor")
LICENCE = "Apache-2.0"
CRM_RECONSTRUCTOR_STAGES = ("render", "finetune", "reconstructor")


def file_name(system: str, part: str) -> str:
    """Name of a shipped file of weights."""
    return f"{system}-micro-{part}.safetensors"


def export_weights(space: Workspace, target: Path) -> Path:
    """Convert the finished stages to `target/*.safetensors`, with their provenance.

    Float16 where floating.

    Raises:
        Fatal: a stage has no finished weights.
    """
    target.mkdir(parents=True, exist_ok=True)
    # One metadata entry: safetensors writes several in no fixed order.
    origin = {"recipe": config_load.to_dict(space.recipe), "licence": LICENCE}
    metadata = {"origin": json.dumps(origin, sort_keys=True)}
    for part, stages in (
        ("multiview", ("noised",)),
        ("reconstructor", ("finetune", "reconstructor")),
    ):
        halves = {
            k: v.half().contiguous() if v.dtype.is_floating_point else v.contiguous()
            for k, v in load_tensors(_finished(space, part, stages)).items()
        }
        save_file(halves, target / file_name("instantmesh", part), metadata=metadata)
    return target


def export_crm_weights(space: CrmWorkspace, target: Path) -> Path:
    """Write the finished stages as `target/*.safetensors` in 8 bits, with their provenance.

    The reconstructor is the one of the last stage that trained it.

    Raises:
        Fatal: a stage has no finished weights.
    """
    for stage in ("views", "ccm"):
        _finished(space, "multiview", (stage,))
    surface = load_tensors(_finished(space, "reconstructor", CRM_RECONSTRUCTOR_STAGES))
    train_examples, _ = space.caches(2, _quiet)
    states = {
        "multiview": space.trained_diffusion(train_examples).state_dict(),
        "reconstructor": surface,
    }
    target.mkdir(parents=True, exist_ok=True)
    recipe = config_load.to_dict(space.recipe)
    for part in PARTS:
        save_quantised(target / file_name("crm", part), states[part], (LICENCE,), recipe=recipe)
    return target


def _quiet(done: int, total: int) -> None:
    """The examples are there already."""


def _finished(space: Workspace | CrmWorkspace, part: str, stages: Sequence[str]) -> Path:
    """The weights of the first of these stages that is finished. Raises `Fatal`."""
    path = next((space.weights(s) for s in stages if space.weights(s).is_file()), None)
    if path is None:
        raise Fatal(
            f"{part} is not trained in {space.folder}",
            stage="export",
            remedy="run train-micro to its end",
        )
    return path


def export_differences(student: Mapping[str, Path], target: Path) -> Path:
    """Write a distilled chain as differences to the shipped teacher chain.

    Args:
        student: full weights of `multiview` and `reconstructor`, as a distillation leaves them.
        target: folder for `geco-micro-*.safetensors`.

    Raises:
        Fatal: a file is missing or damaged, or was distilled from other weights.
    """
    target.mkdir(parents=True, exist_ok=True)
    teacher = config_load.load(
        InstantMeshConfig, config_load.preset_path("instantmesh", "micro")
    ).weights
    for part in PARTS:
        base = Base(getattr(teacher, part), getattr(teacher, f"{part}_sha256"))
        below = load_weights(base.reference, base.sha256).tensors
        tuned = load_weights(str(student[part]))
        licences = tuned.licences or (teacher.licence,)
        try:
            save_difference(target / file_name("geco", part), tuned.tensors, below, base, licences)
        except ValueError as error:
            raise Fatal(
                f"{student[part]} was not distilled from {base.reference}: {error}",
                stage="export",
                remedy="distil with the preset `micro`",
            ) from error
    return target


def install_weights(source: Path, system: str = "instantmesh") -> None:
    """Copy exported weights into `geco_core/weights` and pin their sha256 in the micro preset."""
    package = Path(str(resources.files("geco_core")))
    preset = config_load.preset_path(system, "micro")
    text = preset.read_text()
    for part in PARTS:
        data = (source / file_name(system, part)).read_bytes()
        (package / "weights" / file_name(system, part)).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        text, count = re.subn(rf"(?m)^(  {part}_sha256:).*$", rf"\1 {digest}", text)
        if count != 1:
            raise Fatal(
                f"preset {preset.name} has no line `{part}_sha256:`",
                stage="export",
                remedy="restore the preset",
            )
    preset.write_text(text)
