"""The chains of a distillation: the teacher that is given, and the student that was trained.

What training writes is a part of a chain (a U-Net, a reconstructor). Here it becomes files that the
ordinary loader of `geco generate` reads, so that the distilled chain is used like any other.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geco_core.checkpoints.families import expected_licences, is_own
from geco_core.checkpoints.licences import check_distillable
from geco_core.checkpoints.origin import origin_text
from geco_core.checkpoints.safe import load_weights
from geco_core.checkpoints.writer import write_safetensors
from geco_core.config.distill import DistillConfig
from geco_core.config.load import difference, load, preset_path, to_dict
from geco_core.config.models import InstantMeshConfig
from geco_core.config.run import model_overrides
from geco_core.errors import Fatal
from geco_core.systems import teacher_config as chain_of_teacher
from geco_core.systems.chain import InstantMeshChain, load_chain
from infra.stages import digest_of, put_stage_file
from infra.weights import cache_folder, local_weights
from workflows.dag import StepContext

UNET_PREFIX = "unet."
_SHARED = ("multiview", "reconstructor", "extraction")


def teacher_config(config: DistillConfig) -> InstantMeshConfig:
    """The resolved configuration of the teacher. Raises `ConfigError`."""
    teacher = config.teacher
    return chain_of_teacher(teacher.system, teacher.preset, model_overrides(teacher.model))


def check_teacher(config: DistillConfig) -> tuple[str, ...]:
    """Licences of the teacher's weights, all acknowledged where they restrict what is distilled.

    Raises:
        ConfigError: one that restricts it was not acknowledged, or the teacher is unknown.
    """
    teacher = teacher_config(config)
    licences = expected_licences(teacher)
    names = [n for n in (teacher.weights.multiview, teacher.weights.reconstructor) if n]
    check_distillable(licences, config.teacher.acknowledge_licences, weights=names)
    return licences


def student_words(config: DistillConfig) -> dict[str, Any]:
    """What `model.*` a run of the student needs besides its weights.

    The student's preset may differ from the teacher's: sizes are the teacher's, the sampler is the
    step that was trained.
    """
    preset = preset_path(config.student_system, config.student_preset)
    own, teacher = to_dict(load(InstantMeshConfig, preset)), to_dict(teacher_config(config))
    words: dict[str, Any] = {}
    for section in _SHARED:
        for line in difference(own[section], teacher[section], section):
            name = line.partition(":")[0]
            value: Any = teacher
            for part in name.split("."):
                value = value[part]
            words[name] = value
    sampler = {
        "kind": "one_step",
        "steps": 1,
        "guidance_scale": config.stage1.generator_guidance,
        "reference_t": config.stage1.reference_t,
    }
    return nested(words | {f"sampler.{name}": value for name, value in sampler.items()})


def nested(words: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` -> `{"a": {"b": 1}}`."""
    found: dict[str, Any] = {}
    for name, value in words.items():
        *parents, leaf = name.split(".")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return found


def student_config(config: DistillConfig, weights: Mapping[str, str]) -> InstantMeshConfig:
    """The resolved configuration of the distilled chain.

    Args:
        config: of the distillation.
        weights: `weights.*` overrides, as `export_student` gives them.
    """
    words = model_overrides(student_words(config) | {"weights": dict(weights)})
    preset = preset_path(config.student_system, config.student_preset)
    return load(InstantMeshConfig, preset, words)


def load_teacher(config: DistillConfig) -> InstantMeshChain:
    """The teacher in float32, on the CPU. Raises `Fatal`."""
    return load_chain(teacher_config(config), torch.float32)


def load_tensors(uri: str, sha256: str, config: DistillConfig) -> dict[str, Tensor]:
    """Tensors of a training step's `weights.safetensors`, local or `s3://`.

    Raises:
        Fatal: missing, damaged, or of another digest.
    """
    path = local_weights(uri, config.s3, cache_folder())
    return load_weights(path, sha256).tensors


def unet_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net among the tensors of a training step, under its own names."""
    found = {k.removeprefix(UNET_PREFIX): v for k, v in tensors.items() if _of_unet(k)}
    if not found:
        raise Fatal("there is no U-Net in the weights of stage1", remedy="run stage1 again")
    return found


def _of_unet(name: str) -> bool:
    return name.startswith(UNET_PREFIX)


def export_student(
    config: DistillConfig,
    stage1: Mapping[str, Tensor],
    stage2: Mapping[str, Tensor],
    context: StepContext,
) -> tuple[dict[str, str], dict[str, str]]:
    """Write the distilled chain as files that `geco generate` loads.

    A teacher of our own gives one file of the whole multi-view model; of a published one only the
    U-Net is written, which takes the place of the pipeline's.

    Args:
        config: of the distillation.
        stage1, stage2: tensors the training steps wrote; where the second hold a U-Net, it counts.
        context: of the step that writes.

    Returns:
        `weights.*` overrides, whose files are keys in the run folder, and the files' sha256.
    """
    unet = unet_tensors(stage2 if any(map(_of_unet, stage2)) else stage1)
    surface = {name: value for name, value in stage2.items() if not _of_unet(name)}
    weights = teacher_config(config).weights
    files: dict[str, Mapping[str, Tensor]] = {"reconstructor": surface}
    told: dict[str, str] = {}
    if is_own(weights.multiview):
        model = load_teacher(config).multiview
        model.unet.load_state_dict(unet)
        files["multiview"] = model.state_dict()
    else:
        files["white_unet"] = unet
        told["multiview"] = weights.multiview
    digests: dict[str, str] = {}
    origin = origin_text(
        expected_licences(teacher_config(config)),
        distilled_from=json.loads(json.dumps(to_dict(weights))),
        fingerprint=context.fingerprint,
    )
    for name, tensors in files.items():
        key = context.key(f"student/{name}.safetensors")
        _write(context, key, tensors, origin)
        digests[key] = digest_of(context.storage, key)
        told[name] = key
        if name != "white_unet":
            told[f"{name}_sha256"] = digests[key]
    return told, digests


def _write(
    context: StepContext, key: str, tensors: Mapping[str, Tensor], origin: Mapping[str, str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="geco-export-") as folder:
        path = Path(folder) / "weights.safetensors"
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_safetensors(path, plain, origin)
        put_stage_file(context.storage, key, path)
