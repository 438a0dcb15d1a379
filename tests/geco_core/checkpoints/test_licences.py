"""Licences of weights."""

from __future__ import annotations

import pytest

from geco_core.checkpoints import instantmesh, zero123plus
from geco_core.checkpoints.licences import (
    WEIGHTS,
    commercial_use_allowed,
    distillation_allowed,
    licences_of,
)


def test_every_family_has_a_licence_and_its_source() -> None:
    families = {zero123plus.FAMILY, zero123plus.WHITE_UNET, *instantmesh.PUBLISHED, "micro"}
    assert families == set(WEIGHTS)
    for name, entry in WEIGHTS.items():
        assert entry.family == name
        assert entry.licence
        assert entry.source


def test_what_weights_were_tuned_from_goes_on_to_bind() -> None:
    chain = licences_of(["instantmesh-white-unet", "instant-mesh-large"])
    assert chain == ["Apache-2.0", "CC-BY-NC-4.0", "CreativeML-OpenRAIL++-M"]
    assert not all(commercial_use_allowed(name) for name in chain)
    assert all(distillation_allowed(name) for name in chain)
    assert licences_of(["micro"]) == ["Apache-2.0"]
    with pytest.raises(KeyError):
        licences_of(["unheard-of"])


@pytest.mark.parametrize(
    ("licence", "distils", "sells"),
    [
        ("Apache-2.0", True, True),
        ("CC-BY-NC-4.0", True, False),
        ("CC-BY-NC-ND-4.0", False, False),
        ("CreativeML-OpenRAIL++-M", True, True),
        ("MIT AND Apache-2.0", True, True),
        ("MIT AND LicenseRef-Tencent-Hunyuan", False, False),
        ("proprietary", False, False),
        ("", False, False),
    ],
)
def test_predicates(licence: str, distils: bool, sells: bool) -> None:
    assert distillation_allowed(licence) is distils
    assert commercial_use_allowed(licence) is sells
