"""Configuration loading: overrides, nearest names, nested defaults, types."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from geco_core.config import load as config_load
from geco_core.config.models import InstantMeshConfig
from geco_core.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    steps: int = 5
    rate: float = 0.5
    kind: Literal["fast", "slow"] = "fast"


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=lambda: Inner(steps=7, rate=0.25))
    sizes: tuple[int, ...] = (1, 2)
    name: str | None = None


def test_overrides_reach_nested_fields_and_keep_the_other_defaults() -> None:
    made = config_load.load(Outer, None, ["inner.rate=1e-3", "sizes=[3, 4, 5]", "name=x"])
    assert made == Outer(inner=Inner(steps=7, rate=0.001), sizes=(3, 4, 5), name="x")


def test_yaml_then_override(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("inner:\n  steps: 9\n")
    made = config_load.load(Outer, path, ["inner.kind=slow"])
    assert made.inner == Inner(steps=9, rate=0.25, kind="slow")


@pytest.mark.parametrize(
    ("override", "message", "remedy"),
    [
        ("inner.stepz=1", "inner.stepz", "'steps'"),
        ("iner.steps=1", "iner", "'inner'"),
        ("inner.kind=slwo", "inner.kind", "'slow'"),
        ("inner.steps=many", "inner.steps must be int", ""),
        ("inner.steps=true", "inner.steps must be int", ""),
        ("sizes=3", "sizes must be a list", ""),
        ("sizes", "not of the form", ""),
    ],
)
def test_mistakes_name_the_key_and_the_nearest_name(
    override: str, message: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config_load.load(Outer, None, [override])
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_unreadable_yaml_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        config_load.load(Outer, tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        config_load.load(Outer, tmp_path / "absent.yaml")


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        config_load.preset_path("instantmsh", "micro")
    assert "instantmesh-micro" in caught.value.remedy


def test_fingerprint_follows_content_and_survives_a_round_trip() -> None:
    made = config_load.load(InstantMeshConfig, config_load.preset_path("instantmesh", "micro"))
    again = config_load.build(InstantMeshConfig, config_load.to_dict(made))
    assert again == made
    assert config_load.fingerprint(again) == config_load.fingerprint(made)
    other = config_load.load(InstantMeshConfig, config_load.to_dict(made), ["sampler.steps=9"])
    assert config_load.fingerprint(other) != config_load.fingerprint(made)
    assert config_load.difference(config_load.to_dict(made), config_load.to_dict(other)) == [
        f"sampler.steps: {made.sampler.steps} -> 9"
    ]


def test_a_base_lies_under_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text("inner:\n  steps: 9\n  kind: slow\nname: plain\n")
    (tmp_path / "mine.yaml").write_text("base: plain\ninner:\n  steps: 3\n")
    made = config_load.load(Outer, tmp_path / "mine.yaml", ["sizes=[5]"])
    assert made == Outer(inner=Inner(steps=3, rate=0.25, kind="slow"), sizes=(5,), name="plain")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("mine", "is its own base"),
        ("../plain", "not the name of a file beside it"),
        ("[a]", "not the name of a file beside it"),
        ("nowhere", "can not read configuration"),
    ],
)
def test_a_base_that_leads_nowhere_is_refused(tmp_path: Path, base: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"base: {base}\n")
    with pytest.raises(ConfigError, match=message):
        config_load.load(Outer, tmp_path / "mine.yaml")
