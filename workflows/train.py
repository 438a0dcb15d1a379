"""`geco train`: one of CRM's networks from a training set to weights, resumable at any moment.

Running the same command again goes on from the newest checkpoint.
"""

from __future__ import annotations

import signal
import uuid
from collections.abc import Sequence
from dataclasses import replace

from actors.stop import Stop
from actors.training_crm import open_objects
from actors.training_order import StageInputs
from geco_core.config.load import load, preset_path
from geco_core.config.train import CrmTrainingConfig
from geco_core.distill.build import loop_settings
from geco_core.distill.world import World
from geco_core.errors import ConfigError, Fatal
from geco_core.training.crm_folder import INDEX, CrmFolder, folders
from geco_core.training.crm_folder_writer import WriterConfig, write_objects
from geco_core.training.crm_start import check_start, model_config
from geco_core.training.rendered import RenderCameras
from infra.claim import Claim
from infra.retry import retried
from infra.run_storage import open_run_storage
from infra.stages import digest_of
from infra.storage import Storage, open_storage
from infra.training_folder import WEIGHTS_KEY
from workflows.drain import exit_code as signal_code
from workflows.train_stage import StageResult, train_stage

DRAIN_TIMEOUT_S = 600.0
OK, STOPPED = 0, 3
# Views of a made-up object, whatever a step looks at.
MIN_RENDERS = 4


def training_config(
    preset: str | None,
    source: str | None,
    words: Sequence[str],
    data: str | None = None,
    out: str | None = None,
) -> CrmTrainingConfig:
    """The configuration of a command: a preset or a YAML file, words on top.

    Args:
        preset: name of a shipped preset, e.g. `crm-views`.
        source: path of a YAML file.
        words: `key=value`.
        data: the training set.
        out: the training's folder.

    Raises:
        ConfigError: nothing to start from, or a bad file, key or value.
    """
    if preset is None and source is None:
        raise ConfigError(
            "nothing says what to train", remedy="give --preset crm-micro-smoke or --config FILE"
        )
    path = preset_path("train", preset) if preset is not None else source
    given = {"data": data, "out": out}
    config = load(CrmTrainingConfig, path, words)
    config = replace(config, **{name: value for name, value in given.items() if value})
    check_start(config)
    return config


def train(config: CrmTrainingConfig, objects: int = 0) -> StageResult:
    """Train to the end, or until a signal asks to stop; a second one raises.

    Args:
        config: what to train, and how.
        objects: procedural ones are first written where there is no training set, see `make_data`.

    Raises:
        ConfigError: settings, data or weights that can not be trained with.
        Fatal: the training can not go on; its checkpoints stay.
        Retryable: the store failed, or the wish to stop was not heard in time.
        Interrupted: asked to stop twice.
    """
    if not config.out:
        raise ConfigError("no folder was given", remedy="add --out FOLDER")
    if objects:
        make_data(config, objects)
    training_set(config)  # refused before Ray starts
    storage = open_run_storage(config.out, config.s3, uuid.uuid4().hex)
    stop = Stop(DRAIN_TIMEOUT_S)
    claim = Claim(storage, uuid.uuid4().hex, lambda: stop.request(signal.SIGTERM))
    with claim:
        result = train_stage(config.stage, config, StageInputs(), config.out, stop)
        if claim.lost:
            raise Fatal(f"another command took {storage.uri} over", stage="train")
    return result


def training_set(config: CrmTrainingConfig) -> CrmFolder:
    """The objects that are trained on.

    Raises:
        ConfigError: none were given, fewer than a batch, or a batch of fewer than processes.
        Fatal, Retryable: as `actors.training_crm.open_objects`.
    """
    updates = config.updates
    loop_settings(config.train, updates.optimise(config.seed), World(0, config.train.workers))
    folder = open_objects(config)
    wanted = updates.batch_size
    if len(folder.train) < wanted:
        raise ConfigError(
            f"{len(folder.train)} objects to train on are fewer than a batch of {wanted}",
            stage="train",
            remedy="lower updates.batch_size or examples.heldout, or give more objects",
        )
    return folder


def make_data(config: CrmTrainingConfig, objects: int) -> int:
    """Write procedural objects into the training set, unless there is one.

    Args:
        config: says where, and how large pictures are.
        objects: how many.

    Returns:
        How many were written: 0 where there was a training set.

    Raises:
        ConfigError: no place was given, or objects without an index lie there.
        Fatal, Retryable: of the store.
    """
    if not config.data:
        raise ConfigError("no place for the objects was given", remedy="add --data FOLDER")
    storage = open_storage(config.data, config.s3)
    if retried(lambda: storage.exists(INDEX)):
        return 0
    sizes = model_config(config)
    side = max(sizes.diffusion.encoders.image_size, sizes.reconstructor.unet.plane_size)
    _refuse_others(storage)
    writer = WriterConfig(
        objects=objects,
        size=2 * side,
        render_size=config.render.render_size,
        cameras=RenderCameras(views=max(MIN_RENDERS, 2 * config.render.views_per_step)),
    )
    return write_objects(lambda name, data: retried(lambda: storage.put_atomic(name, data)), writer)


def _refuse_others(storage: Storage) -> None:
    """Raise `ConfigError` for objects that an index of made-up ones would hide."""
    prefix = f"{WriterConfig().split}-"  # an interrupted call left some of its own
    names = folders(retried(lambda: list(storage.list(""))))
    others = [name for name in names if not name.startswith(prefix)]
    if others:
        raise ConfigError(
            f"{storage.uri} holds objects without {INDEX}, {others[0][:80]!r} first",
            stage="train",
            remedy="leave --make-data out to train on them, or give another folder",
        )


def summary(result: StageResult, config: CrmTrainingConfig) -> str:
    """How it ended, and what to do next."""
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in sorted(result.numbers.items()))
    lines = [f"{result.stage}  {result.step} of {result.steps} updates, {result.made} now"]
    if numbers:
        lines.append(f"last      {numbers}")
    if not result.complete:
        lines.append("the same command goes on")
    else:
        field = "reconstructor" if config.training == "reconstructor" else "multiview"
        digest = digest_of(open_storage(result.folder, config.s3), WEIGHTS_KEY)
        lines.append(f"weights   {result.weights}")
        lines.append(f"use       model.weights.{field}={result.weights}")
        lines.append(f"          model.weights.{field}_sha256={digest}")
    return "\n".join(lines) + "\n"


def exit_code(result: StageResult) -> int:
    """0 when the training is finished, 128 + its number after a signal, else 3."""
    if result.complete:
        return OK
    return signal_code(result.signal) if result.signal else STOPPED
