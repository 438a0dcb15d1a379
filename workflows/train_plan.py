"""`geco train --plan`: what a command would train, and on what, without loading either."""

from __future__ import annotations

import yaml

from geco_core.config.load import to_dict
from geco_core.config.train import CrmTrainingConfig
from geco_core.training.crm_folder import CrmFolder
from geco_core.training.crm_start import STARTS, check_start
from infra.checkpoints import StoredCheckpoints
from infra.storage import open_storage
from infra.training_folder import has_weights
from workflows.train import training_set
from workflows.words import counted

# What the other kind of training reads.
_UNUSED = {"views": ("render",), "ccm": ("render",), "reconstructor": ("loss",)}


def preview(config: CrmTrainingConfig) -> str:
    """The plan as text: what is trained and read, what stands, then the resolved configuration.

    Raises:
        ConfigError: no training set, or settings that `geco train` refuses too.
        Fatal: the training set holds no objects.
        Retryable: the store failed.
    """
    check_start(config)
    folder = training_set(config)
    updates = config.updates
    plain = to_dict(config)
    for name in _UNUSED[config.training]:
        del plain[name]
    lines = [
        f"training  {config.stage}: {config.model.system}-{config.model.preset}",
        f"data      {config.data}: {_objects(folder, config)}",
        f"start     {_start(config)}",
        f"updates   {_updates(config)}",
        f"epochs    {updates.steps * updates.batch_size / max(1, len(folder.train)):,.1f}",
        f"out       {_standing(config)}",
        "",
        yaml.safe_dump(plain, sort_keys=False, default_flow_style=None).rstrip(),
    ]
    return "\n".join(lines) + "\n"


def _updates(config: CrmTrainingConfig) -> str:
    updates, workers = config.updates, config.train.workers
    rows = -(-updates.batch_size // workers)
    processes = "1 process" if workers == 1 else f"{workers:,} processes"
    pieces = counted(min(updates.accumulation, rows), "piece")
    return (
        f"{updates.steps:,} of {counted(updates.batch_size, 'object')}: {processes} with {rows} "
        f"each in {pieces}, {updates.precision}, rate {updates.rate:g}"
    )


def _objects(folder: CrmFolder, config: CrmTrainingConfig) -> str:
    captions = sum(1 for entry in folder.train if entry.caption)
    used = "read" if config.examples.tokenizer else "not read: no examples.tokenizer"
    told = f", {captions:,} captions ({used})" if config.training != "reconstructor" else ""
    return (
        f"{counted(len(folder.train), 'object')} to train on, {len(folder.heldout)} held out{told}"
    )


def _start(config: CrmTrainingConfig) -> str:
    names = STARTS[config.training]
    given = [f"{n} {getattr(config.init, n)}" for n in names if getattr(config.init, n)]
    licences = f" ({', '.join(config.init.licences)})" if config.init.licences else ""
    return f"{', '.join(given)}{licences}" if given else "random weights"


def _standing(config: CrmTrainingConfig) -> str:
    if not config.out:
        return "no folder given"
    storage = open_storage(config.out, config.s3)
    if has_weights(storage):
        return f"{config.out}: finished"
    steps = StoredCheckpoints(storage, config.train.keep_checkpoints).steps()
    return f"{config.out}: {steps[0]:,} updates made" if steps else f"{config.out}: not begun"
