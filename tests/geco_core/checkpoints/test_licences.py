"""Licences of weights."""

from __future__ import annotations

import pytest

from geco_core.checkpoints.families import FAMILIES
from geco_core.checkpoints.licences import (
    RESTRICTIONS,
    WEIGHTS,
    check_distillable,
    commercial_use_allowed,
    distillation_allowed,
    licences_of,
)
from geco_core.config.distill import DistillConfig
from geco_core.config.load import load
from geco_core.errors import ConfigError


def test_every_family_has_a_licence_and_its_source() -> None:
    families = {*FAMILIES, "micro"}
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
    assert licences_of(["crm-diffusion", "crm-reconstructor"]) == ["CreativeML-OpenRAIL++-M", "MIT"]
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


def test_a_restricted_teacher_is_refused_until_its_licences_are_acknowledged() -> None:
    licences = licences_of(["zero123plus-v1.2", "instantmesh-white-unet", "instant-mesh-large"])
    with pytest.raises(ConfigError) as caught:
        check_distillable(licences, [])
    message, remedy = caught.value.message, caught.value.remedy
    assert "zero123plus-v1.2, instantmesh-white-unet: CC-BY-NC-4.0 (no commercial use" in message
    assert "CreativeML-OpenRAIL++-M (the uses its attachment A" in message
    assert "Apache-2.0" not in message
    line = "teacher.acknowledge_licences=[CC-BY-NC-4.0,CreativeML-OpenRAIL++-M]"
    assert line in remedy
    taken = load(DistillConfig, None, [line]).teacher.acknowledge_licences
    check_distillable(licences, taken)


def test_the_line_to_add_keeps_what_is_acknowledged_already() -> None:
    licences = ["Apache-2.0", "CC-BY-NC-4.0", "CreativeML-OpenRAIL++-M"]
    with pytest.raises(ConfigError) as caught:
        check_distillable(licences, ["CC-BY-NC-4.0"], weights=["my weights"])
    assert caught.value.message.count("my weights") == 1
    assert "[CC-BY-NC-4.0,CreativeML-OpenRAIL++-M]" in caught.value.remedy


@pytest.mark.parametrize("licence", ["LicenseRef-Unread", "CC-BY-NC-ND-4.0", "MIT AND X", ""])
def test_what_nobody_read_or_what_forbids_it_needs_a_word_too(licence: str) -> None:
    with pytest.raises(ConfigError, match="restrict what is distilled"):
        check_distillable([licence], [])
    check_distillable([licence], ["LicenseRef-Unread", "CC-BY-NC-ND-4.0", "X", ""])


def test_free_licences_ask_for_nothing() -> None:
    check_distillable(["Apache-2.0", "MIT AND CC0-1.0"], [])
    check_distillable([], [])
    assert not any(distillation_allowed(n) and n in RESTRICTIONS for n in ("MIT", "Apache-2.0"))
