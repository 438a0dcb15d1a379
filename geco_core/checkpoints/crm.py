"""Adapter of CRM.pth, the reconstruction half of CRM: 629 float32 tensors in a flat map.

The file holds `unet2.unet.*`, `unet2.learned_plane`, `sdfMlp.*`, `rgbMlp.*` and `weightMlp.*`; the
original loads it without checking names, we do. Our own files and their conversions load too, and
`published_state` gives a model under the published names again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from geco_core.checkpoints.adapter import LoadReport, Names, adapt, same_names
from geco_core.checkpoints.families import CRM_FILES, SHIPPED, crm_family
from geco_core.checkpoints.hub import Resolver, find_file
from geco_core.checkpoints.loaded import LoadedModel, load_model
from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.errors import Fatal
from geco_core.reconstruct.crm import CrmReconstructor

PART = "the CRM reconstructor"
# Published prefix -> ours. A prefix that ends in a dot covers what is below it.
_PREFIXES: Mapping[str, str] = {
    "unet2.unet.": "unet.network.",
    "unet2.learned_plane": "unet.learned_plane",
    "sdfMlp.fc1.": "decoder.geometry_head.0.",
    "sdfMlp.fc2.": "decoder.geometry_head.2.",
    "sdfMlp.fc3.": "decoder.geometry_head.4.",
    "rgbMlp.fc1.": "decoder.color_head.0.",
    "rgbMlp.fc2.": "decoder.color_head.2.",
    "rgbMlp.fc3.": "decoder.color_head.4.",
    "weightMlp.": "decoder.weight_head.",
}


def load_crm(
    reference: str,
    config: CrmReconstructorConfig,
    *,
    sha256: str = "",
    dtype: torch.dtype | None = None,
    resolver: Resolver | None = None,
) -> LoadedModel[CrmReconstructor]:
    """Load the published reconstructor, a conversion of it, or our own.

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
        crm_file(reference, resolver),
        lambda: CrmReconstructor(config),
        lambda model, state: load_published(model, state, dtype=dtype),
        sha256=sha256,
        family="" if reference.startswith(SHIPPED) else crm_family(config),
    )


def crm_file(reference: str, resolver: Resolver | None = None) -> Path:
    """The file that `load_crm` opens. Raises `Fatal` when it is missing."""
    return find_file(reference, CRM_FILES, resolver, published=CRM_FILES[-1])


def load_published(
    model: CrmReconstructor, state: Mapping[str, Tensor], *, dtype: torch.dtype | None = None
) -> LoadReport:
    """Assign a state dict under published or our own names to a model, which may be on meta.

    Raises:
        Fatal: a tensor is missing, unknown or of another shape.
    """
    return adapt(model, state, names_of(state), part=PART, dtype=dtype)


def names_of(state: Iterable[str]) -> Names:
    """File name -> ours, for a file with these names.

    Raises:
        Fatal: no name is one of this reconstructor.
    """
    names = list(state)
    if any(published_name(name) for name in names):
        return same_names
    if any(our_name(name) for name in names):
        return lambda name: our_name(name) or name  # an unknown name is refused, not dropped
    raise Fatal(
        f"no CRM reconstructor in this file: its names start with "
        f"{sorted({n.partition('.')[0] for n in names})[:5]}",
        stage="load",
        remedy="take CRM.pth or a conversion of it; the .pth files of its diffusion models differ",
    )


def our_name(published: str) -> str | None:
    """Our name of a published tensor; None for names that are not of this model."""
    return _renamed(published, _PREFIXES)


def published_name(ours: str) -> str | None:
    """The published name of one of our tensors; None for names that are not of this model."""
    return _renamed(ours, {mine: theirs for theirs, mine in _PREFIXES.items()})


def published_state(model: CrmReconstructor) -> dict[str, Tensor]:
    """The model's tensors under their published names, in the order of our state dict."""
    state: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        name = published_name(ours)
        assert name is not None, ours
        state[name] = tensor
    return state


def _renamed(name: str, prefixes: Mapping[str, str]) -> str | None:
    for old, new in prefixes.items():
        if name == old or (old.endswith(".") and name.startswith(old)):
            return new + name.removeprefix(old)
    return None
