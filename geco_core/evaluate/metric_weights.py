"""Where the weights of the optional metrics lie, and the exact way to get them when they do not.

Nothing is downloaded here: a run of thousands of objects must not begin to fetch gigabytes from
somewhere, and a machine without a network must fail at once, before any work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from geco_core.checkpoints.refusals import CheckpointError
from geco_core.checkpoints.safe import Weights, load_into
from geco_core.checkpoints.state import open_state
from geco_core.errors import ConfigError

DEFAULT_FOLDER = "weights/metrics"
STAGE = "load"
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights.

    Attributes:
        name: below the folder of metric weights.
        source: what it is.
        licence: of the file.
        command: gets it; `{folder}` stands for the folder of metric weights.
    """

    name: str
    source: str
    licence: str
    command: str

    def path(self, folder: Path) -> Path:
        """Where it has to lie; the same file as .safetensors is taken first."""
        safe = (folder / self.name).with_suffix(".safetensors")
        return safe if safe.is_file() else folder / self.name


def require(metric: str, files: list[WeightsFile], folder: Path) -> list[Path]:
    """Paths of the files a metric needs.

    Raises:
        ConfigError: some are missing; the remedy has one command for each.
    """
    missing = [file for file in files if not file.path(folder).is_file()]
    if missing:
        names = ", ".join(f"{file.name} ({file.source}, {file.licence})" for file in missing)
        wanted = dict.fromkeys(file.command.format(folder=folder) for file in missing)
        raise ConfigError(
            f"weights of {metric} are not in {folder}: {names}",
            remedy="get them with\n  "
            + "\n  ".join(wanted)
            + "\nor name their folder with --metric-weights",
            stage=STAGE,
        )
    return [file.path(folder) for file in files]


def curl(url: str, name: str) -> str:
    """The command that downloads one file into the folder of metric weights."""
    return f"curl -L --create-dirs -o {{folder}}/{name} {url}"


def load_part(module: nn.Module, path: Path, prefix: str, name: str) -> None:
    """Fill a module from the tensors of a file whose names start with `prefix`; no code runs.

    Args:
        module: every one of its tensors must be there, with its shape.
        path: .safetensors, .pth, .pt or .bin.
        prefix: cut off the names; tensors with other names are left out.
        name: of the model, for errors.

    Raises:
        ConfigError: the file is damaged, unsafe, or of another model.
    """
    try:
        opened = open_state(path)
    except CheckpointError as error:
        raise ConfigError(error.message, remedy=error.remedy, stage=STAGE) from error
    tensors: Mapping[str, Tensor] = {
        key.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for key, value in opened.tensors.items()
        if key.startswith(prefix)
    }
    # Files of before torch 0.4.1 have no counters of seen batches, which evaluation does not use.
    counters = {k: v for k, v in module.state_dict().items() if k.endswith(_COUNTER)}
    load_into(module, Weights({**counters, **tensors}, opened.sha256), name)
    module.requires_grad_(False)
    module.eval()
