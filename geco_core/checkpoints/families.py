"""The published weights: sizes, file names, and which of them a configuration asks for.

Nothing here opens a tensor or imports torch, so that a plan can say what a run will load, under
which licences, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geco_core.checkpoints.hub import find_optional
from geco_core.checkpoints.licences import licences_of
from geco_core.checkpoints.origin import read_licences
from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.config.crm_system import CrmConfig, CrmWeightsConfig
from geco_core.config.models import InstantMeshConfig, ReconstructorConfig, WeightsConfig
from geco_core.errors import Fatal

FAMILY, WHITE_UNET = "zero123plus-v1.2", "instantmesh-white-unet"
REPOSITORY = "sudo-ai/zero123plus-v1.2"
INSTANTMESH_REPOSITORY = "TencentARC/InstantMesh"
WHITE_UNET_FILE = "diffusion_pytorch_model.bin"
INDEX = "model_index.json"
SHIPPED, OWN = "package:", ".safetensors"
_DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
              "diffusion_pytorch_model.safetensors.index.json")  # fmt: skip
_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")
PART_FILES: Mapping[str, tuple[str, ...]] = {
    "unet": _DIFFUSERS,
    "vae": _DIFFUSERS,
    "text_encoder": _TRANSFORMERS,
    "vision_encoder": _TRANSFORMERS,
}
WHITE_UNET_FILES = tuple(dict.fromkeys((WHITE_UNET_FILE, *_DIFFUSERS)))
CONFIGURATIONS = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "vision_encoder/config.json",
    "scheduler/scheduler_config.json",
    "feature_extractor_vae/preprocessor_config.json",
)


def _published(kind: Literal["mesh", "nerf"], *, large: bool) -> ReconstructorConfig:
    return ReconstructorConfig(
        kind=kind,
        transformer_layers=16 if large else 12,
        triplane_dim=80 if large else 40,
        samples_per_ray=128 if large else 96,
    )


PUBLISHED: Mapping[str, ReconstructorConfig] = {
    "instant-mesh-large": _published("mesh", large=True),
    "instant-mesh-base": _published("mesh", large=False),
    "instant-nerf-large": _published("nerf", large=True),
    "instant-nerf-base": _published("nerf", large=False),
}
CRM_DIFFUSION, CRM_RECONSTRUCTOR = "crm-diffusion", "crm-reconstructor"
CRM_REPOSITORY = "Zhengyi/CRM"
CRM_VIEWS_FILES = ("pixel-diffusion.safetensors", "pixel-diffusion.pth")
CRM_CCM_FILES = ("ccm-diffusion.safetensors", "ccm-diffusion.pth")
CRM_FILES = ("CRM.safetensors", "CRM.pth")
FAMILIES = (FAMILY, WHITE_UNET, *PUBLISHED, CRM_DIFFUSION, CRM_RECONSTRUCTOR)
ChainConfig = InstantMeshConfig | CrmConfig


@dataclass(frozen=True)
class ChainWeights:
    """What a chain will load.

    Attributes:
        licences: SPDX identifiers that bind its outputs, sorted.
        files: field of the `weights` section -> groups of names inside a folder; of each group the
            first name that is there is read.
    """

    licences: tuple[str, ...]
    files: Mapping[str, tuple[tuple[str, ...], ...]]


def chain_weights(config: ChainConfig) -> ChainWeights:
    """What a configuration asks for. Reads headers of local files, never their tensors.

    Licences that a file in a bucket states in its header are known only once it is loaded.
    """
    licences = expected_licences(config)
    if isinstance(config, CrmConfig):
        return ChainWeights(
            licences, {"multiview": (CRM_VIEWS_FILES, CRM_CCM_FILES), "reconstructor": (CRM_FILES,)}
        )
    parts = [part for part in PART_FILES if part != "unet" or not config.weights.white_unet]
    views = [tuple(f"{part}/{name}" for name in PART_FILES[part]) for part in parts]
    documents = [(INDEX,), *((name,) for name in CONFIGURATIONS)]
    files = {
        "multiview": (*views, *documents),
        "white_unet": (WHITE_UNET_FILES,),
        "reconstructor": (tuple(file_names(config.reconstructor)),),
    }
    return ChainWeights(licences, files)


def expected_licences(config: ChainConfig) -> tuple[str, ...]:
    """Licences of the weights that a configuration names, sorted."""
    weights = config.weights
    views = bound_by(_stated(weights.multiview), multiview_families(weights), weights.licence)
    more: tuple[str, ...] = ()
    if isinstance(config, CrmConfig):
        name = crm_family(config.reconstructor)
    else:
        name = published_name(config.reconstructor)
        more = _stated(config.weights.white_unet) if multiview_families(weights) else ()
    own = weights.reconstructor.startswith(SHIPPED) or not name
    surface = bound_by(_stated(weights.reconstructor), () if own else (name,), weights.licence)
    return tuple(sorted({*views, *more, *surface}))


def bound_by(
    stated: tuple[str, ...], families: tuple[str, ...], configured: str
) -> tuple[str, ...]:
    """Licences of one set of weights.

    What the file itself states goes first, then what is known of its families, then the
    configuration.
    """
    return stated or tuple(licences_of(families)) or ((configured,) if configured else ())


def multiview_families(weights: WeightsConfig | CrmWeightsConfig) -> tuple[str, ...]:
    """Families of the multi-view weights; none when they are one file of our own."""
    if is_own(weights.multiview):
        return ()
    if isinstance(weights, CrmWeightsConfig):
        return (CRM_DIFFUSION,)
    return (FAMILY, WHITE_UNET) if weights.white_unet else (FAMILY,)


def is_own(reference: str) -> bool:
    """Whether multi-view weights are one file of our own instead of a published pipeline."""
    return reference.startswith(SHIPPED) or reference.endswith(OWN)


def published_name(config: ReconstructorConfig) -> str:
    """The published model of this configuration; "" if none. Neutral fields may differ."""
    for name, published in PUBLISHED.items():
        same = ("kind", "encoder", "transformer_dim", "transformer_layers", "triplane_dim")
        if all(getattr(config, f) == getattr(published, f) for f in same):
            return name
    return ""


def crm_family(config: CrmReconstructorConfig) -> str:
    """The published family of this configuration; "" if none. Neutral fields may differ."""
    published = CrmReconstructorConfig()
    same = config.unet == published.unet and config.hidden_dim == published.hidden_dim
    return CRM_RECONSTRUCTOR if same else ""


def file_names(config: ReconstructorConfig) -> list[str]:
    """Names under which a folder or the repository holds the configured model, published last."""
    stem = published_name(config).replace("-", "_") or "reconstructor"
    return [f"{stem}.safetensors", f"{stem}.ckpt"]


def _stated(reference: str) -> tuple[str, ...]:
    """What a local file of ours says of its licences."""
    if not reference or reference.startswith("s3://"):
        return ()
    try:
        path: Path | None = find_optional(reference, ())
    except Fatal:
        return ()  # whoever loads it says what is wrong
    return read_licences(path) if path is not None and path.suffix == OWN else ()
