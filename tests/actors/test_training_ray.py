"""How a training on Ray ends, and what a worker group may ask for; without Ray."""

from __future__ import annotations

import pytest

from actors.training_ray import GroupOptions, _ended, check_group, check_ray_train
from geco_core.distill.loop import LoopResult
from geco_core.errors import ConfigError, Fatal, Retryable


def group(workers: int = 2, min_workers: int | None = None, *, gpus: bool = False) -> GroupOptions:
    return GroupOptions(workers, min_workers, gpus, 1, 0)


def test_how_a_training_ended() -> None:
    assert _ended((6, 0, True), [], False) == LoopResult(6, 0, True)
    with pytest.raises(ConfigError, match="wrong"):
        _ended(ConfigError("wrong"), [RuntimeError("wrapped")], False)
    with pytest.raises(Fatal, match="the training failed: a worker died") as caught:
        _ended(None, [RuntimeError("a worker died")], False)
    assert "max_failures" in caught.value.remedy
    with pytest.raises(Retryable, match="did not stop in time"):
        _ended(None, [], True)


@pytest.mark.parametrize(
    ("options", "resources", "own", "fits"),
    [
        (group(2), {"CPU": 2.0}, True, True),
        (group(3), {"CPU": 2.0}, True, False),
        (group(3, 1), {"CPU": 2.0}, True, True),
        (group(3), {"CPU": 2.0}, False, True),
        (group(1, gpus=True), {"CPU": 8.0}, True, False),
    ],
)
def test_a_group_that_never_fits_is_refused(
    options: GroupOptions, resources: dict[str, float], own: bool, fits: bool
) -> None:
    if fits:
        check_group(options, resources, own=own)
        return
    with pytest.raises(ConfigError, match="Ray has"):
        check_group(options, resources, own=own)


def test_a_ray_without_its_training_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"fsspec", "pandas", "requests"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name in there or None)
    check_ray_train()
    there.remove("pandas")
    with pytest.raises(ConfigError, match="pandas") as caught:
        check_ray_train()
    assert 'pip install "ray[train]"' in caught.value.remedy
