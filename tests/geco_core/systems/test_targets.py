"""The targets system: its teacher's configuration with two keys beside, and its own results."""

from __future__ import annotations

from pathlib import Path

import pytest

from geco_core.config.run import model_overrides
from geco_core.distill.targets import MadeTarget
from geco_core.errors import BadItem, ConfigError
from geco_core.systems import build_system, describe_system, describe_weights
from geco_core.systems.targets import TargetsSystem
from geco_core.types import Condition, Item, Mesh, System
from tests.support.tiny_teacher import picture, tiny_model

OWN = ["targets.renders=2", "targets.render_size=8"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [*model_overrides(tiny_model(tmp_path_factory.mktemp("w"))), *OWN]


@pytest.fixture(scope="module")
def system(words: list[str]) -> TargetsSystem:
    made = build_system("targets", "micro", words)
    assert isinstance(made, TargetsSystem)
    return made


def test_it_is_a_system_with_its_teachers_configuration(
    system: TargetsSystem, words: list[str]
) -> None:
    assert isinstance(system, System)
    assert (system.name, system.preset, system.batch_size) == ("targets", "micro", 4)
    described = describe_system("targets", "micro", words)
    assert described["teacher"] == "instantmesh"
    assert described["targets"]["renders"] == 2
    assert described["sampler"]["steps"] == 2
    assert "store" not in described["targets"]
    assert describe_weights("targets", "micro", words).licences == ("Apache-2.0",)


def test_generate_gives_the_meshes_of_make(system: TargetsSystem) -> None:
    conditions = [system.prepare(Item(f"i{k}", image=picture(k))) for k in range(2)]
    meshes = system.generate(conditions, [1, 2])
    made = list(system.make(conditions, [1, 2]))
    for mesh, row in zip(meshes, made, strict=True):
        assert isinstance(mesh, Mesh)
        assert isinstance(row, MadeTarget)
        assert mesh.vertices.tobytes() == row.mesh.vertices.tobytes()
        assert row.target.key == system.key(conditions[made.index(row)], row.target.seed)
    assert {*system.timing()} == {"multiview", "reconstruct", "extract"}


def test_the_configuration_digest_counts_the_renders(
    system: TargetsSystem, words: list[str]
) -> None:
    other = build_system("targets", "micro", [*words, "targets.renders=3"])
    mine, theirs = system.provenance(), other.provenance()
    assert mine["weights_digest"] == theirs["weights_digest"]
    assert mine["config_digest"] != theirs["config_digest"]


def test_prompts_are_refused(system: TargetsSystem) -> None:
    with pytest.raises(BadItem, match="not prompts"):
        system.key(Condition("x", prompt="a chair"), 1)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("teacher=nothing", "no system 'nothing'"),
        ("targets.rendres=3", "rendres"),
        ("sampler.stops=3", "stops"),
        ("sampler.kind=one_step", "one_step"),
    ],
)
def test_bad_words_are_refused(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        describe_system("targets", "micro", [word])
