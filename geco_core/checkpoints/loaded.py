"""Weights in files to models on the CPU, and where they came from.

The steps are the same for every family: the file is opened, a model without memory is built, the
family's adapter fills it, and nothing may be left unfilled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from geco_core.checkpoints.adapter import LoadReport, check_complete, skeleton
from geco_core.checkpoints.origin import licences_in
from geco_core.checkpoints.safe import load_into, load_weights
from geco_core.checkpoints.state import open_state

M = TypeVar("M", bound=nn.Module)
Fill = Callable[[M, Mapping[str, Tensor]], LoadReport]


@dataclass(frozen=True)
class LoadedModel(Generic[M]):
    """A model of one file.

    Attributes:
        model: filled, on the CPU, in evaluation mode.
        report: what became of every key.
        sha256: of the file.
        licences: what the file itself states; empty if nothing.
        family: the published model it is, a key of `licences.WEIGHTS`; "" if it is none of them.
    """

    model: M
    report: LoadReport
    sha256: str
    licences: tuple[str, ...] = ()
    family: str = ""


@dataclass(frozen=True)
class LoadedParts(Generic[M]):
    """A model of several files.

    Attributes:
        model: filled, on the CPU, in evaluation mode.
        reports: one per part.
        digests: part -> sha256 of its file.
        families: keys of `licences.WEIGHTS`.
        licences: of the families, and what the files themselves state, sorted.
    """

    model: M
    reports: tuple[LoadReport, ...]
    digests: Mapping[str, str]
    families: tuple[str, ...]
    licences: tuple[str, ...]

    @property
    def digest(self) -> str:
        """One hex sha256 over those of the parts."""
        text = "\n".join(f"{part} {self.digests[part]}" for part in sorted(self.digests))
        return hashlib.sha256(text.encode()).hexdigest()


def load_model(
    path: Path, build: Callable[[], M], fill: Fill[M], *, sha256: str = "", family: str = ""
) -> LoadedModel[M]:
    """Load a published file, or one of ours under names that its adapter knows.

    Args:
        path: of the file.
        build: makes the model; its parameters get no memory of their own.
        fill: assigns the file's tensors.
        sha256: expected hex digest of the file; empty means any.
        family: see `LoadedModel`.

    Raises:
        Fatal: damaged, of another digest, or not the model.
    """
    opened = open_state(path, sha256)
    model = skeleton(build)
    report = fill(model, opened.tensors)
    report = replace(report, dropped=(*report.dropped, *opened.dropped))
    check_complete(model, report.part)
    licences = licences_in(opened.metadata)
    return LoadedModel(model.eval(), report, opened.sha256, licences, family)


def load_own(
    reference: str,
    build: Callable[[], M],
    name: str,
    *,
    sha256: str = "",
    dtype: torch.dtype | None = None,
) -> LoadedModel[M]:
    """Load one safetensors file of our own, whose names are the model's.

    Args:
        reference: of the file, see `hub`.
        build: see `load_model`.
        name: of the model, for errors.
        sha256: expected hex digest of the file; empty means any.
        dtype: of all floating weights; the file's when None.

    Raises:
        Fatal: missing, damaged, or not the model.
    """
    own = load_weights(reference, sha256, dtype=dtype)
    model = skeleton(build)
    report = load_into(model, own, name, assign=True)
    check_complete(model, name)
    return LoadedModel(model.eval(), report, own.sha256, own.licences)
