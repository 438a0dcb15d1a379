"""Foreground by a segmentation network: rembg (optional, MIT), with weights already here.

rembg would download its weights on first use; a pipeline that must give the same answer on every
worker, and a library that opens no sockets, can not have that.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from geco_core.errors import ConfigError

MODEL = "u2net"


def network_missing() -> str | None:
    """What is missing for `network_alpha`, in words, or None when it can run."""
    if importlib.util.find_spec("rembg") is None:
        return "the package rembg is not installed"
    if not _weights().is_file():
        return f"the weights {_weights()} are not there"
    return None


def network_alpha(rgba: np.ndarray) -> np.ndarray:
    """Alpha uint8 [H, W] of the salient object in uint8 [H, W, 4].

    Raises:
        ConfigError: the package or its weights are missing.
    """
    missing = network_missing()
    if missing is not None:
        raise ConfigError(
            f"foreground by network is asked for, but {missing}",
            remedy=f"install rembg with {MODEL}.onnx, or choose another matting method",
            stage="prepare",
        )
    rembg = importlib.import_module("rembg")
    mask = rembg.remove(rgba[..., :3], session=_session(), only_mask=True)
    return np.asarray(mask, dtype=np.uint8)


def _weights() -> Path:
    home = os.environ.get("U2NET_HOME") or Path(os.environ.get("XDG_DATA_HOME", "~")) / ".u2net"
    return Path(home).expanduser() / f"{MODEL}.onnx"


@functools.lru_cache(maxsize=1)
def _session() -> Any:
    return importlib.import_module("rembg").new_session(MODEL)
