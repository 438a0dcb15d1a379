"""Licences of published weights, as data: what was stated, where, and what it is derived from.

Code is another matter: nothing here speaks of the licence of anyone's source files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from geco_core.errors import ConfigError

# Licences under which a model may be made from this one, or from what it generates.
_PERMISSIVE = frozenset({"Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0"})
# Allowed too, but what is made from it inherits limits (no commerce, same licence, uses).
_WITH_LIMITS = frozenset(
    {
        "CC-BY-NC-4.0",
        "CC-BY-SA-4.0",
        "CC-BY-NC-SA-4.0",
        "CreativeML-OpenRAIL-M",
        "CreativeML-OpenRAIL++-M",
    }
)
_NON_COMMERCIAL = frozenset({"CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0"})
# What a licence asks of what is made from the weights, where it is more than a notice.
RESTRICTIONS: Mapping[str, str] = {
    "CC-BY-NC-4.0": "no commercial use, and credit to the authors",
    "CC-BY-SA-4.0": "what is made from it must be under the same licence",
    "CC-BY-NC-SA-4.0": "no commercial use, and the same licence for what is made from it",
    "CC-BY-NC-ND-4.0": "no commercial use, and nothing made from it may be shared",
    "CreativeML-OpenRAIL-M": "the uses its attachment A rules out stay ruled out",
    "CreativeML-OpenRAIL++-M": "the uses its attachment A rules out stay ruled out",
}
_UNREAD = "nobody has read here what it allows"


@dataclass(frozen=True)
class WeightsLicence:
    """The licence of one published set of weights.

    Attributes:
        family: our name of the weights.
        licence: SPDX identifier as the publisher states it.
        source: where it is stated.
        derived_from: licences of the weights these were tuned from, which go on to bind.
        note: what a user should know besides.
    """

    family: str
    licence: str
    source: str
    derived_from: tuple[str, ...] = ()
    note: str = ""

    @property
    def all(self) -> tuple[str, ...]:
        """Every licence that binds: the stated one first, then inherited ones."""
        return tuple(dict.fromkeys((self.licence, *self.derived_from)))


_INSTANTMESH = "LICENSE of github.com/TencentARC/InstantMesh"
_CRM = "LICENSE of github.com/thu-ml/CRM, which speaks of its software; no other was found"
_RECONSTRUCTORS = ("instant-mesh-base", "instant-mesh-large", "instant-nerf-base",
                   "instant-nerf-large")  # fmt: skip
WEIGHTS: dict[str, WeightsLicence] = {
    entry.family: entry
    for entry in (
        WeightsLicence(
            "micro",
            "Apache-2.0",
            "LICENSE of this project",
            note="trained from procedural shapes alone",
        ),
        WeightsLicence(
            "zero123plus-v1.2",
            "CC-BY-NC-4.0",
            "README of github.com/SUDO-AI-3D/zero123plus (licence of the weights)",
            derived_from=("CreativeML-OpenRAIL++-M",),
            note="tuned from Stable Diffusion 2 (arXiv 2310.15110, section 2)",
        ),
        WeightsLicence(
            "instantmesh-white-unet",
            "Apache-2.0",
            _INSTANTMESH,
            derived_from=("CC-BY-NC-4.0", "CreativeML-OpenRAIL++-M"),
            note="tuned from zero123plus-v1.2, whose licence forbids commercial use",
        ),
        *(WeightsLicence(family, "Apache-2.0", _INSTANTMESH) for family in _RECONSTRUCTORS),
        WeightsLicence(
            "crm-diffusion",
            "MIT",
            _CRM,
            derived_from=("CreativeML-OpenRAIL++-M",),
            note="tuned from ImageDream (OpenRAIL, README of github.com/bytedance/ImageDream), "
            "which was tuned from Stable Diffusion 2.1",
        ),
        WeightsLicence("crm-reconstructor", "MIT", _CRM, note="trained from nothing"),
    )
}


def licences_of(families: Iterable[str]) -> list[str]:
    """Every licence that binds what these weights make together, for provenance, sorted.

    Raises `KeyError` for a family that is not recorded.
    """
    return sorted({name for family in families for name in WEIGHTS[family].all})


def distillation_allowed(licence: str) -> bool:
    """Whether another model may be trained from these weights or from their outputs.

    What is made may inherit limits: see `commercial_use_allowed`. Licences nobody has read here are
    not allowed; an expression `A AND B` needs both.
    """
    return all(name in _PERMISSIVE | _WITH_LIMITS for name in _parts(licence))


def commercial_use_allowed(licence: str) -> bool:
    """Whether outputs may be used commercially; unknown licences do not allow it."""
    return distillation_allowed(licence) and not _NON_COMMERCIAL & set(_parts(licence))


def check_distillable(
    licences: Iterable[str], acknowledged: Sequence[str], *, weights: Sequence[str] = ()
) -> None:
    """Refuse to distil from weights under a licence that restricts it and was not acknowledged.

    What is distilled inherits the licences, acknowledged or not.

    Args:
        licences: of the teacher, as `licences_of` and `Chain.licences` give them.
        acknowledged: `teacher.acknowledge_licences` of the configuration.
        weights: what the message calls the weights; the known ones under the licence when empty.

    Raises:
        ConfigError: naming weights, licences, restrictions, and the line to add.
    """
    needed = list(dict.fromkeys(n for text in licences for n in _parts(text)))
    bound = [name for name in needed if name not in _PERMISSIVE]
    open_ones = [name for name in bound if name not in acknowledged]
    if not open_ones:
        return
    lines = []
    for name in open_ones:
        known = weights or [entry.family for entry in WEIGHTS.values() if name in entry.all]
        whose = ", ".join(known) or "the teacher's weights"
        lines.append(f"{whose}: {name or 'no licence'} ({RESTRICTIONS.get(name, _UNREAD)})")
    wanted = [name for name in needed if name in bound or name in acknowledged]
    raise ConfigError(
        "the teacher's licences restrict what is distilled from it: " + "; ".join(lines),
        remedy="read them, and if you keep to them add "
        f"teacher.acknowledge_licences=[{','.join(wanted)}]",
        stage="plan",
    )


def _parts(licence: str) -> list[str]:
    return [part.strip() for part in licence.split(" AND ")]
