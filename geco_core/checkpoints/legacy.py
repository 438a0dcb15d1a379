"""The one place that opens torch's pickled checkpoints.

`load_tensors` never runs code of the file: torch's restricted unpickler builds tensors and plain
containers only. `load_trusted` runs whatever the file says; only the child process of
`geco convert` calls it, and only after the user vouched for the file.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import torch

from geco_core.checkpoints.containers import corrupt
from geco_core.checkpoints.refusals import CheckpointError, Refusal

# The old format: a number, a version, a description of the machine, then the object.
_PICKLES_BEFORE_DATA = 4
_MEMORY = re.compile(r"can't allocate memory|bad_alloc|Cannot allocate memory", re.IGNORECASE)
_GLOBAL = re.compile(r"(?:GLOBAL|global:?|class)\s+([A-Za-z_][\w]*(?:\.[\w<>]+)+)")


def load_tensors(path: Path, *, mmap: bool = False) -> Any:
    """Load a `torch.save` file without running code of it, on the CPU.

    Args:
        path: an archive or an old pickle file.
        mmap: map the tensors instead of copying them. Only for archives that
            `containers.check_archive` passed: torch would map compressed records as if plain.

    Raises:
        CheckpointError: objects other than tensors are in it (`PICKLE_REFUSED`), or it is damaged.
        MemoryError: there is not enough memory.
    """
    return _guarded(path, trusted=False, mmap=mmap)


def load_trusted(path: Path) -> Any:
    """Load a `torch.save` file and RUN whatever its pickle says. Raises as `load_tensors`."""
    return _guarded(path, trusted=True, mmap=False)


def _guarded(path: Path, *, trusted: bool, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=not trusted, mmap=mmap)
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        raise _unpickling(path, str(error), trusted=trusted) from error
    except Exception as error:  # a damaged pickle raises errors of any type
        if _MEMORY.search(str(error)):
            raise MemoryError(str(error)) from error
        first = (str(error).splitlines() or [""])[0]
        raise corrupt(path, f"{type(error).__name__}: {first}") from error


def _unpickling(path: Path, text: str, *, trusted: bool) -> CheckpointError:
    if trusted or not _well_formed(path):
        return corrupt(path, text.splitlines()[0])
    found = _GLOBAL.search(text)
    wants = f"it asks for {found.group(1)}" if found else "it asks for more than tensors"
    return CheckpointError(
        f"{path.name} is a pickle that would run code: {wants}",
        refusal=Refusal.PICKLE_REFUSED,
        remedy="ask the publisher for safetensors, or convert a file you trust with `geco convert`",
    )


def _well_formed(path: Path) -> bool:
    """Whether the pickle reads to its end, without running it.

    Torch's unpickler reports a damaged pickle and a forbidden one alike.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                for _ in range(_PICKLES_BEFORE_DATA):
                    deque(pickletools.genops(stream), maxlen=0)
            return True
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.partition("/")[2] == "data.pkl")
            deque(pickletools.genops(archive.read(name)), maxlen=0)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, StopIteration):
        return False
    return True
