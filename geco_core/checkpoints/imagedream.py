"""Adapter of the published MVDream, ImageDream and CRM diffusion files.

One file holds a network (`model.diffusion_model.`), OpenCLIP's towers, the autoencoder and the
vectors of a noise schedule. The schedule is made from the configuration, never read. Snapshots of
training hold the network alone. Three tensors of OpenCLIP (its projections and temperature) have no
use here and are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geco_core.checkpoints.adapter import LoadReport, adapt, check_complete, skeleton
from geco_core.checkpoints.families import CRM_VIEWS_FILES
from geco_core.checkpoints.hub import Resolver, find_file
from geco_core.checkpoints.ldm_names import (
    NameTable,
    fuse,
    text_table,
    unet_table,
    unfuse,
    vae_table,
    vision_table,
)
from geco_core.checkpoints.origin import licences_in
from geco_core.checkpoints.state import open_state
from geco_core.config.crm import ConditionEncodersConfig, ImageDreamConfig
from geco_core.diffusion.codec import AutoencoderKLCodec
from geco_core.errors import Fatal
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.imagedream import ImageDream

# What may stand before the names of each part; the first is CRM's.
_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "unet": ("model.diffusion_model.", "diffusion_model."),
    "vae": ("vae_model.", "first_stage_model."),
    "towers": ("clip_model.model.", "cond_stage_model.model."),
}
_NOT_USED = ("text_projection", "logit_scale", "visual.proj")
_VISION = "visual."
# Made by the constructor of the original, not learned.
_BUFFERS = ("attn_mask",)
SCHEDULE_VECTORS = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
_REMEDY = "use the configuration these weights were published for"


@dataclass(frozen=True)
class LoadedImageDream:
    """A network and where it came from.

    Attributes:
        model: filled, on the CPU, in evaluation mode.
        encoders: from the same file, when asked for.
        reports: one per part.
        sha256: of the file.
        licences: what the file itself states; empty if nothing.
    """

    model: ImageDream
    encoders: ConditionEncoders | None
    reports: tuple[LoadReport, ...]
    sha256: str
    licences: tuple[str, ...] = ()


def load_imagedream(
    reference: str,
    config: ImageDreamConfig,
    encoders: ConditionEncodersConfig | None = None,
    *,
    names: Iterable[str] = CRM_VIEWS_FILES,
    sha256: str = "",
    dtype: torch.dtype | None = None,
    resolver: Resolver | None = None,
) -> LoadedImageDream:
    """Load one published file.

    Args:
        reference: the file, a folder that holds it, or its repository on the hub.
        config: sizes of the network.
        encoders: sizes of towers and autoencoder, to load those too.
        names: file names to look for in a folder, the published one last.
        sha256: expected hex digest; empty means any.
        dtype: of all weights; the file's when None (the network float16, the rest float32).
        resolver: for `s3://` references.

    Raises:
        Fatal: the file is missing, damaged or does not fit.
    """
    wanted = list(names)
    path = find_file(reference, wanted, resolver, published=wanted[-1])
    opened = open_state(path, sha256)
    model = skeleton(lambda: ImageDream(config))
    reports = [load_network(model, opened.tensors, dtype=dtype, assign=True)]
    towers = None
    if encoders is not None:
        towers = skeleton(lambda: ConditionEncoders(encoders))
        reports += load_encoders(towers, opened.tensors, dtype=dtype, assign=True)
        check_complete(towers, "encoders")
        towers.eval()
    check_complete(model, "unet")
    licences = licences_in(opened.metadata)
    return LoadedImageDream(model.eval(), towers, tuple(reports), opened.sha256, licences)


def load_network(
    model: ImageDream,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    assign: bool = False,
) -> LoadReport:
    """Put the network of a published state dict into `model`; other parts are not looked at.

    Raises:
        Fatal: a tensor is missing, unknown or of another shape.
    """
    table = unet_table(model.config.unet)
    return _load(model, _part(state, "unet"), table, "unet", dtype, assign=assign)


def load_encoders(
    encoders: ConditionEncoders,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    assign: bool = False,
) -> list[LoadReport]:
    """Put the autoencoder and both towers of a published state dict into `encoders`.

    Raises:
        Fatal: a tensor is missing, unknown or of another shape.
    """
    towers = _part(state, "towers")
    parts = {
        "vae": _part(state, "vae"),
        "text": {n: v for n, v in towers.items() if not n.startswith(_VISION)},
        "vision": {n: v for n, v in towers.items() if n.startswith(_VISION)},
    }
    return [
        _load(module, parts[part], table, part, dtype, assign=assign)
        for part, (module, table) in _encoder_parts(encoders).items()
    ]


def load_autoencoder(
    encoders: ConditionEncoders, state: Mapping[str, Tensor], *, assign: bool = False
) -> LoadReport:
    """Put the autoencoder alone of a published state dict into `encoders`. Raises `Fatal`."""
    module, table = _encoder_parts(encoders)["vae"]
    return _load(module, _part(state, "vae"), table, "vae", None, assign=assign)


def published_network(model: ImageDream) -> dict[str, Tensor]:
    """The network's state dict under its published names (also on meta)."""
    table, prefix = unet_table(model.config.unet), _PREFIXES["unet"][0]
    return {prefix + table.published(name): v for name, v in model.state_dict().items()}


def published_encoders(encoders: ConditionEncoders) -> dict[str, Tensor]:
    """Towers and autoencoder under their published names, without what is not used here."""
    found: dict[str, Tensor] = {}
    for part, (module, table) in _encoder_parts(encoders).items():
        prefix = _PREFIXES["vae" if part == "vae" else "towers"][0]
        named = {table.published(name): v for name, v in module.state_dict().items()}
        found.update({prefix + name: v for name, v in fuse(named).items()})
    return found


def unused_shapes(config: ConditionEncodersConfig) -> dict[str, tuple[int, ...]]:
    """Published name -> shape of what a file holds besides: dropped tensors, schedule vectors."""
    prefix, joint = _PREFIXES["towers"][0], config.vision.projection_dim
    steps = 1000
    return {
        f"{prefix}text_projection": (config.text.hidden_size, joint),
        f"{prefix}logit_scale": (),
        f"{prefix}visual.proj": (config.vision.hidden_size, joint),
        **dict.fromkeys(SCHEDULE_VECTORS, (steps,)),
    }


def left_out(state: Iterable[str], *, encoders: bool) -> tuple[str, ...]:
    """Names of a file that are not read: its schedule, and its encoders unless they are wanted.

    Raises:
        Fatal: a name that belongs to no part.
    """
    parts = ("unet", "vae", "towers") if encoders else ("unet",)
    read = tuple(prefix for part in parts for prefix in _PREFIXES[part])
    known = tuple(prefix for prefixes in _PREFIXES.values() for prefix in prefixes)
    rest = tuple(name for name in state if not name.startswith(read))
    strange = [n for n in rest if not n.startswith(known) and n not in SCHEDULE_VECTORS]
    if strange:
        raise Fatal(
            f"{len(strange)} tensors belong to no part, first {strange[:3]}",
            stage="load",
            remedy=_REMEDY,
        )
    return rest


def _encoder_parts(encoders: ConditionEncoders) -> dict[str, tuple[nn.Module, NameTable]]:
    codec, config = encoders.codec, encoders.config
    if not isinstance(codec, AutoencoderKLCodec):
        raise Fatal(
            f"the {config.codec.kind} codec has no published weights",
            stage="load",
            remedy="set encoders.codec.kind=autoencoder_kl",
        )
    return {
        "vae": (codec.vae, vae_table(config.codec)),
        "text": (encoders.text, text_table(config.text.num_hidden_layers)),
        "vision": (encoders.vision, vision_table(config.vision.num_hidden_layers)),
    }


def _part(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of one part, without its prefix. Raises `Fatal` when there are none."""
    for prefix in _PREFIXES[part]:
        found = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        if found:
            return found
    raise Fatal(
        f"no {part} in this file: no name starts with {' or '.join(_PREFIXES[part])}",
        stage="load",
        remedy="take a file of MVDream, ImageDream or CRM's diffusion stages",
    )


def _load(
    module: nn.Module,
    state: Mapping[str, Tensor],
    table: NameTable,
    part: str,
    dtype: torch.dtype | None,
    *,
    assign: bool,
) -> LoadReport:
    def names(name: str) -> str | None:
        return None if name in (*_NOT_USED, *_BUFFERS) else table.ours(name)

    return adapt(
        module, unfuse(state), names, part=part, dtype=dtype, assign=assign, remedy=_REMEDY
    )
