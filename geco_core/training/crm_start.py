"""What CRM's trainings start from: published weights, weights of ours, or random ones.

The two diffusion stages of CRM (arXiv 2403.05034) start from ImageDream's network; stage 2 reads
more channels than that has, and its first layer begins as half the weights beside zeros. Names in
our files are those of `CrmDiffusion`: `encoders.*`, `views.*`, `ccm.*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geco_core.checkpoints.adapter import adapt, same_names
from geco_core.checkpoints.crm import load_crm
from geco_core.checkpoints.families import CRM_CCM_FILES, CRM_VIEWS_FILES
from geco_core.checkpoints.hub import find_file
from geco_core.checkpoints.imagedream import load_encoders, load_network
from geco_core.checkpoints.origin import licences_in
from geco_core.checkpoints.safe import load_weights
from geco_core.checkpoints.state import OpenState, open_state
from geco_core.config.crm import ImageDreamConfig
from geco_core.config.crm_system import CrmConfig
from geco_core.config.load import load, preset_path
from geco_core.config.run import model_overrides
from geco_core.config.train import CrmTrainingConfig, InitConfig
from geco_core.diffusion.codec import PatchCodec
from geco_core.errors import ConfigError
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.crm import check_diffusion
from geco_core.multiview.imagedream import ImageDream
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.training.crm_reconstructor import neutral_heads

IMAGEDREAM_FILE = "sd-v2.1-base-4view-ipmv.pt"
ENCODERS = "encoders."
# Training -> the fields of `InitConfig` that it reads.
STARTS = {
    "views": ("network", "multiview"),
    "ccm": ("network", "multiview"),
    "reconstructor": ("reconstructor",),
}
STARTS_OF_ALL = ("network", "multiview", "reconstructor")
_CONV_IN = ("model.diffusion_model.input_blocks.0.0.weight",
            "diffusion_model.input_blocks.0.0.weight")  # fmt: skip
_OUR_CONV_IN = "unet.conv_in.weight"


@dataclass(frozen=True)
class DiffusionStart:
    """A stage before its first step, on the CPU in float32.

    Attributes:
        network: of the stage.
        encoders: fixed; a patch codec that `fitted` is false of is still to be fitted.
        fitted: whether the encoders came from a file.
        rest: tensors of our file that go into the result unchanged.
        init: field of the configuration -> sha256 of its file.
        licences: of the files.
    """

    network: ImageDream
    encoders: ConditionEncoders
    fitted: bool
    rest: Mapping[str, Tensor]
    init: Mapping[str, str]
    licences: tuple[str, ...]


@dataclass(frozen=True)
class ReconstructorStart:
    """The reconstructor before its first step; attributes as `DiffusionStart`."""

    model: CrmReconstructor
    init: Mapping[str, str]
    licences: tuple[str, ...]


def model_config(config: CrmTrainingConfig) -> CrmConfig:
    """The resolved configuration of the system whose network is trained.

    Raises:
        ConfigError: unknown system, preset or key, or sizes that do not fit together.
    """
    model = config.model
    if model.system != "crm":
        raise ConfigError(
            f"geco train trains CRM's networks, not those of {model.system!r}",
            remedy="set model.system=crm",
        )
    found = load(
        CrmConfig, preset_path(model.system, model.preset), model_overrides(model.overrides)
    )
    if config.training != "reconstructor":
        check_diffusion(found.diffusion)
    return found


def check_start(config: CrmTrainingConfig) -> None:
    """Refuse, before anything is read, what can not be made from nothing or would be ignored.

    Raises:
        ConfigError: a trained autoencoder without its weights, or settings that this training does
            not know; see also `model_config`.
    """
    sizes, init = model_config(config), config.init
    _refuse_ignored(config)
    if config.training == "reconstructor" or init.network or init.multiview:
        return
    if sizes.diffusion.encoders.codec.kind != "patch":
        raise ConfigError(
            f"the encoders of {config.model.system}-{config.model.preset} can not be made from "
            "nothing",
            stage="train",
            remedy="set init.network to an ImageDream or CRM file, or init.multiview to one of "
            "ours (docs/guide/training.md)",
        )


def start_diffusion(config: CrmTrainingConfig, init: InitConfig) -> DiffusionStart:
    """The network and the encoders of a diffusion stage.

    Args:
        config: of the training; random weights come from torch's global generator.
        init: the same as `config.init`, its files local.

    Raises:
        ConfigError: as `check_start`, files that do not say their licence, or a file of ours
            without a network that can not be made from nothing.
        Fatal: weights that can not be read or do not fit.
    """
    sizes = model_config(config).diffusion
    stage: ImageDreamConfig = getattr(sizes, config.training)
    prefix = f"{config.training}."
    check_start(replace(config, init=init))
    network, encoders = ImageDream(stage), ConditionEncoders(sizes.encoders)
    licences, digests = set(init.licences), dict[str, str]()
    rest: dict[str, Tensor] = {}
    if init.network:
        opened = _published(init)
        _fill_network(network, stage, opened)
        if not init.multiview:
            load_encoders(encoders, opened.tensors)
        digests["network"] = opened.sha256
        licences |= _stated("init.network", licences_in(opened.metadata), init)
    if init.multiview:
        own = load_weights(init.multiview, init.multiview_sha256)
        parts = _parts(own.tensors, (ENCODERS, prefix))
        adapt(encoders, parts[ENCODERS], same_names, part="the encoders", assign=False)
        if not init.network:
            _continue_own(network, parts[prefix], sizes.encoders.codec.kind, config.training)
        rest = parts[""]
        digests["multiview"] = own.sha256
        licences |= _stated("init.multiview", own.licences, init)
    fitted = bool(init.network or init.multiview)
    return DiffusionStart(network, encoders, fitted, rest, digests, tuple(sorted(licences)))


def start_reconstructor(config: CrmTrainingConfig, init: InitConfig) -> ReconstructorStart:
    """The reconstructor; without weights it starts as a ball. Arguments as `start_diffusion`.

    Raises:
        ConfigError: a file that does not say its licence.
        Fatal: weights that can not be read or do not fit.
    """
    sizes = model_config(config).reconstructor
    if not init.reconstructor:
        model = CrmReconstructor(sizes)
        neutral_heads(model)
        return ReconstructorStart(model, {}, tuple(init.licences))
    loaded = load_crm(
        init.reconstructor, sizes, sha256=init.reconstructor_sha256, dtype=torch.float32
    )
    stated = _stated("init.reconstructor", loaded.licences, init)
    return ReconstructorStart(
        loaded.model, {"reconstructor": loaded.sha256}, tuple(sorted(stated | {*init.licences}))
    )


def fit_codec(encoders: ConditionEncoders, images: Tensor) -> None:
    """Fit the patch codec to pictures [M, 3, S, S] in [0, 1]."""
    codec = encoders.codec
    assert isinstance(codec, PatchCodec)
    codec.fit(images)


def widened(weight_OIhw: Tensor, channels: int) -> Tensor:
    """A first layer for more input channels: half the weights, then zeros, [O, channels, h, w]."""
    zeros = weight_OIhw.new_zeros(
        weight_OIhw.shape[0], channels - weight_OIhw.shape[1], *weight_OIhw.shape[2:]
    )
    return 0.5 * torch.cat([weight_OIhw, zeros], dim=1)


def _refuse_ignored(config: CrmTrainingConfig) -> None:
    """Raise `ConfigError` for what is set and would not be read."""
    read = STARTS[config.training]
    given = [name for name in STARTS_OF_ALL if getattr(config.init, name) and name not in read]
    if given:
        raise ConfigError(
            f"training={config.training} does not start from init.{given[0]}",
            stage="train",
            remedy=f"leave it empty; init.{' and init.'.join(read)} would be read",
        )
    if config.train.student_rank is not None:
        raise ConfigError(
            "train.student_rank is of a distillation; here the whole network learns",
            stage="train",
            remedy="leave it out",
        )
    if config.training == "reconstructor" and config.render.point_weight:
        raise ConfigError(
            "render.point_weight needs points, and a training set of pictures has none",
            stage="train",
            remedy="set render.point_weight=0",
        )


def _continue_own(
    network: ImageDream, tensors: Mapping[str, Tensor], codec: str, training: str
) -> None:
    """Load the network of our file; a micro one that is not there starts at random.

    Raises:
        ConfigError: it is not there, and it is no micro one.
    """
    if tensors:
        adapt(network, tensors, same_names, part=training, assign=False)
    elif codec != "patch":
        raise ConfigError(
            f"init.multiview holds no network {training!r}, which would start at random",
            stage="train",
            remedy="set init.network too, to an ImageDream or CRM file",
        )


def _published(init: InitConfig) -> OpenState:
    names = (IMAGEDREAM_FILE, *CRM_VIEWS_FILES, *CRM_CCM_FILES)
    return open_state(find_file(init.network, names), init.network_sha256)


def _fill_network(network: ImageDream, config: ImageDreamConfig, opened: OpenState) -> None:
    """Load a published network, widening its first layer where ours reads more channels."""
    given = next((opened.tensors[name] for name in _CONV_IN if name in opened.tensors), None)
    channels = config.unet.in_channels
    if given is None or given.shape[1] == channels or given.shape[1] != config.unet.out_channels:
        load_network(network, opened.tensors)
        return
    narrow = replace(
        config,
        unet=replace(config.unet, in_channels=config.unet.out_channels),
        pixel_latents=False,
        reference_channels=False,
        coordinate_channels=False,
    )
    source = ImageDream(narrow)
    load_network(source, opened.tensors)
    state = source.state_dict()
    state[_OUR_CONV_IN] = widened(state[_OUR_CONV_IN], channels)
    network.load_state_dict(state)


def _parts(
    tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]
) -> dict[str, dict[str, Tensor]]:
    """Tensors by prefix, without it; under "" those of none, whole."""
    parts: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in (*prefixes, "")}
    for name, tensor in tensors.items():
        prefix = next((p for p in prefixes if name.startswith(p)), "")
        parts[prefix][name.removeprefix(prefix)] = tensor
    return parts


def _stated(what: str, licences: tuple[str, ...], init: InitConfig) -> set[str]:
    """Licences of a file, which the file or the configuration must state. Raises `ConfigError`."""
    if not licences and not init.licences:
        raise ConfigError(
            f"{what} does not say under which licence it is",
            stage="train",
            remedy="read its licence, and if you keep to it set init.licences=[SPDX-IDENTIFIER]",
        )
    return set(licences)
