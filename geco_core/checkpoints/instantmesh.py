"""Adapter of the four published InstantMesh / InstantNeRF checkpoints.

The files are Lightning's: a map whose `state_dict` holds the reconstructor under `lrm_generator.`
beside what training needed (perceptual loss, source cameras), which is dropped. The same weights
converted to safetensors, with or without the prefixes, load too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from geco_core.checkpoints.adapter import LoadReport, Names, adapt
from geco_core.checkpoints.families import PUBLISHED, SHIPPED, file_names, published_name
from geco_core.checkpoints.hub import Resolver, find_file
from geco_core.checkpoints.loaded import LoadedModel, load_model
from geco_core.config.models import ReconstructorConfig
from geco_core.errors import Fatal
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import InstantNeRF

# Longest first: what stands before our names in Lightning's file, in parts of it, and in ours.
_PREFIXES = ("state_dict.lrm_generator.", "lrm_generator.", "")
_LAYER = re.compile(r"transformer\.layers\.(\d+)\.")


def load_reconstructor(
    reference: str,
    config: ReconstructorConfig,
    *,
    sha256: str = "",
    dtype: torch.dtype | None = None,
    resolver: Resolver | None = None,
) -> LoadedModel[InstantMesh | InstantNeRF]:
    """Load a reconstructor: a published one, a conversion of one, or our own.

    Args:
        reference: the file, a folder that holds it, the hub repository, or one inside the package.
        config: sizes; must be those of the file.
        sha256: expected hex digest of the file; empty means any.
        dtype: of all weights; the file's when None.
        resolver: for `s3://` references.

    Raises:
        Fatal: missing, damaged, or not the configured model.
    """
    return load_model(
        reconstructor_file(reference, config, resolver),
        lambda: build_reconstructor(config),
        lambda model, state: load_published(model, state, dtype=dtype),
        sha256=sha256,
        family="" if reference.startswith(SHIPPED) else published_name(config),
    )


def reconstructor_file(
    reference: str, config: ReconstructorConfig, resolver: Resolver | None = None
) -> Path:
    """The file that `load_reconstructor` opens. Raises `Fatal` when it is missing."""
    names = file_names(config)
    return find_file(reference, names, resolver, published=names[-1])


def build_reconstructor(config: ReconstructorConfig) -> InstantMesh | InstantNeRF:
    """The reconstructor of a configuration's kind, with random weights."""
    return InstantNeRF(config) if config.kind == "nerf" else InstantMesh(config)


def load_published(
    model: InstantMesh | InstantNeRF,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
) -> LoadReport:
    """Assign a published state dict (dotted names) to a model, which may be on the meta device.

    Raises:
        Fatal: a surprise; the remedy names the published model the file looks like.
    """
    name = published_name(model.config) or f"the {model.config.kind} reconstructor"
    guess = recognise(state)
    remedy = "use the configuration these weights were trained with"
    if guess:
        remedy = f"the file looks like {guess}: use its configuration"
    return adapt(model, state, names_of(state), part=name, dtype=dtype, remedy=remedy)


def names_of(state: Iterable[str]) -> Names:
    """Published name -> ours, for a file with these names.

    Raises:
        Fatal: no name is one of a reconstructor.
    """
    names = list(state)
    prefix = next((p for p in _PREFIXES if any(n.startswith(f"{p}encoder.") for n in names)), None)
    if prefix is None:
        raise Fatal(
            f"no reconstructor in this file: its names start with "
            f"{sorted({n.partition('.')[0] for n in names})[:5]}",
            stage="load",
            remedy="take one of InstantMesh's .ckpt files, or a conversion of one",
        )

    def ours(name: str) -> str | None:
        if not name.startswith(prefix) or "source_camera" in name:
            return None
        return name.removeprefix(prefix)

    return ours


def recognise(state: Mapping[str, Tensor]) -> str:
    """The published model whose layers and widths a state dict has; "" if none."""
    names = " ".join(state)
    layers = 1 + max((int(n) for n in _LAYER.findall(names)), default=-1)
    planes = next((v.shape[1] for n, v in state.items() if n.endswith("deconv.weight")), 0)
    kind = "mesh" if "net_sdf." in names else "nerf"
    for name, config in PUBLISHED.items():
        if (kind, layers, planes) == (config.kind, config.transformer_layers, config.triplane_dim):
            return name
    return ""
