"""Optional metrics by name: `lpips`, `lpips-alex`, `clip`, `fid`.

They need weights that nobody ships with a program. Everything they need is checked before any of it
is loaded, so that a missing file costs a second and not an evaluation.
"""
# ruff: noqa: PLC0415 - each metric is imported where it is asked for: clip loads transformers

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from geco_core.config.convert import suggest
from geco_core.errors import ConfigError
from geco_core.evaluate.score import PairMetric

if TYPE_CHECKING:
    from geco_core.evaluate.fid import Fid
    from geco_core.evaluate.metric_weights import WeightsFile

EXTRAS = ("lpips", "lpips-alex", "clip", "fid")


@dataclass
class Extras:
    """Loaded metrics.

    Attributes:
        pairs: metrics of pairs of images, by the name of their number.
        fid: the metric of all images of a run, or None.
    """

    pairs: dict[str, PairMetric] = field(default_factory=dict)
    fid: Fid | None = None


def check_extras(names: Sequence[str], folder: Path) -> None:
    """Refuse unknown names and missing weights, all of them at once.

    Raises:
        ConfigError: with the commands that get what is missing.
    """
    from geco_core.evaluate.metric_weights import require

    for name in names:
        if name not in EXTRAS:
            raise ConfigError(
                f"there is no metric {name!r}", remedy=suggest(name, list(EXTRAS), "extras")
            )
    files = []
    for name in dict.fromkeys(names):
        files += _files(name)
    require(", ".join(dict.fromkeys(names)), files, folder)


def load_extras(names: Sequence[str], folder: Path) -> Extras:
    """Load metrics by name from a folder of weights; none for no names.

    Raises:
        ConfigError: an unknown name, or weights that are missing or damaged.
        Fatal: weights of another model.
    """
    extras = Extras()
    if not names:
        return extras
    check_extras(names, folder)
    if "lpips" in names or "lpips-alex" in names:
        from geco_core.evaluate.lpips import load_lpips

        if "lpips" in names:
            extras.pairs["lpips"] = load_lpips(folder, "vgg")
        if "lpips-alex" in names:
            extras.pairs["lpips_alex"] = load_lpips(folder, "alex")
    if "clip" in names:
        from geco_core.evaluate.clip_score import load_clip

        extras.pairs["clip"] = load_clip(folder)
    if "fid" in names:
        from geco_core.evaluate.fid import load_fid

        extras.fid = load_fid(folder)
    return extras


def _files(name: str) -> list[WeightsFile]:
    from geco_core.evaluate.lpips import lpips_files

    if name == "clip":
        from geco_core.evaluate.clip_score import FILES

        return FILES
    if name == "fid":
        from geco_core.evaluate.fid import FILES as FID_FILES

        return FID_FILES
    return lpips_files("alex" if name == "lpips-alex" else "vgg")
