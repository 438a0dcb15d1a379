"""Trained micro weights as float16 safetensors, installed and pinned by digest."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path

from safetensors.torch import save_file

from geco_core.checkpoints.legacy import load_tensors
from geco_core.config import load as config_load
from geco_core.errors import Fatal
from geco_core.training.recipe import Workspace

FILES = {
    "multiview": "instantmesh-micro-multiview",
    "reconstructor": "instantmesh-micro-reconstructor",
}


def export_weights(space: Workspace, target: Path) -> Path:
    """Convert the finished stages to `target/*.safetensors`, with their provenance.

    Float16 where floating.

    Raises:
        Fatal: a stage has no finished weights.
    """
    target.mkdir(parents=True, exist_ok=True)
    # One metadata entry: safetensors writes several in no fixed order.
    origin = {"recipe": config_load.to_dict(space.recipe), "licence": "Apache-2.0"}
    metadata = {"origin": json.dumps(origin, sort_keys=True)}
    for name, stages in (
        ("multiview", ("multiview",)),
        ("reconstructor", ("finetune", "reconstructor")),
    ):
        path = next((space.weights(s) for s in stages if space.weights(s).is_file()), None)
        if path is None:
            raise Fatal(
                f"{name} is not trained in {space.folder}",
                stage="export",
                remedy="run train-micro to its end",
            )
        state = load_tensors(path)
        halves = {
            k: v.half().contiguous() if v.dtype.is_floating_point else v.contiguous()
            for k, v in state.items()
        }
        save_file(
            halves,
            target / f"{FILES[name]}.safetensors",
            metadata=metadata,
        )
    return target


def install_weights(source: Path) -> None:
    """Copy exported weights into `geco_core/weights` and pin their sha256 in the micro preset."""
    package = Path(str(resources.files("geco_core")))
    preset = config_load.preset_path("instantmesh", "micro")
    text = preset.read_text()
    for key, stem in FILES.items():
        data = (source / f"{stem}.safetensors").read_bytes()
        (package / "weights" / f"{stem}.safetensors").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        text, count = re.subn(rf"(?m)^(  {key}_sha256:).*$", rf"\1 {digest}", text)
        if count != 1:
            raise Fatal(
                f"preset {preset.name} has no line `{key}_sha256:`",
                stage="export",
                remedy="restore the preset",
            )
    preset.write_text(text)
