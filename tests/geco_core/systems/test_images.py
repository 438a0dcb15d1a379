"""What every system that reads one image does alike: bad inputs, provenance, precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geco_core.config.load import fingerprint
from geco_core.errors import BadItem, Reason
from geco_core.systems import build_system
from geco_core.systems.images import ImageSystem, image_of
from geco_core.types import Condition, Item, Mesh
from tests.geco_core.checkpoints.published import chain_words, write_chain
from tests.geco_core.checkpoints.published_crm import crm_words, write_crm
from tests.geco_core.imaging import bad_images
from tests.support.tiny_teacher import picture

NAMES = ("instantmesh", "crm")
_WRITERS = {"instantmesh": (write_chain, chain_words), "crm": (write_crm, crm_words)}


@pytest.fixture(scope="module", params=NAMES)
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageSystem:
    """Each system at tiny sizes, from files in its published layout."""
    write, words = _WRITERS[request.param]
    folder: Path = tmp_path_factory.mktemp(request.param)
    write(folder)
    built = build_system(request.param, "full", words(folder))
    assert isinstance(built, ImageSystem)
    return built


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Item("a", prompt="a chair"), Reason.MISSING_INPUT),
        (Item("a", image=b"not an image"), Reason.NOT_AN_IMAGE),
        (Item("a", image=bad_images.CASES["fully transparent"].make()), Reason.EMPTY_FOREGROUND),
        (Item("a", image=bad_images.CASES["png truncated"].make()), Reason.CORRUPT_IMAGE),
    ],
    ids=lambda value: value.value if isinstance(value, Reason) else "",
)
def test_preparing_says_what_is_wrong(system: ImageSystem, item: Item, reason: Reason) -> None:
    with pytest.raises(BadItem) as caught:
        system.prepare(item)
    assert (caught.value.reason, caught.value.item_id) == (reason, "a")
    assert caught.value.stage
    assert caught.value.remedy


def test_addresses_are_not_read_here(system: ImageSystem) -> None:
    with pytest.raises(TypeError, match="fetch stage"):
        system.prepare(Item("a", image="a.png"))


def test_a_condition_without_an_image_fails_alone(system: ImageSystem) -> None:
    good = system.prepare(Item("good", image=picture(1)))
    first, second = system.generate([good, Condition("prompt", prompt="a chair")], [1, 2])
    assert isinstance(first, Mesh)
    assert isinstance(second, BadItem)
    assert (second.reason, second.item_id) == (Reason.UNSUPPORTED_INPUT, "prompt")
    assert "reads images" in second.message


def test_an_empty_batch_gives_nothing(system: ImageSystem) -> None:
    assert system.generate([], []) == []
    assert system.timing() == {}


def test_the_condition_keeps_the_picture_and_its_digest(system: ImageSystem) -> None:
    condition = system.prepare(Item("a", image=picture(1)))
    rgba = image_of(condition)
    assert rgba.shape[-1] == 4
    assert 0 < float((rgba[..., 3] > 0).mean()) < 1
    assert len(condition.source_sha256) == 64


def test_provenance_names_weights_configuration_and_licences(system: ImageSystem) -> None:
    told = system.provenance()
    assert len(told["weights_digest"]) == 129
    assert told["config_digest"] == fingerprint(system.config)
    assert "CreativeML-OpenRAIL++-M" in told["licences"]


def test_on_a_cpu_items_go_alone(system: ImageSystem) -> None:
    seen: list[slice] = []

    def call(rows: slice) -> torch.Tensor:
        seen.append(rows)
        return torch.zeros(1)

    assert len(system._per_item(call, 3)) == 3
    assert seen == [slice(0, 1), slice(1, 2), slice(2, 3)]
