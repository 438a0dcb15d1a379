"""Licences of published weights, as data: what was stated, where, and what it is derived from.

Code is another matter: nothing here speaks of the licence of anyone's source files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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


def _parts(licence: str) -> list[str]:
    return [part.strip() for part in licence.split(" AND ")]
