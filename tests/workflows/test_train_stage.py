"""A training stage in this process: stopped, continued, finished, refused; on disk and in S3."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from actors.stop import Stop
from geco_core.config.distill import DistillConfig
from geco_core.errors import ConfigError, Fatal
from infra.storage import LocalStorage, open_storage
from infra.training_folder import read_events
from tests.support.s3_servers import S3Server, environment, moto_server
from tests.support.tiny_chain import (
    tiny_distill,
    tiny_target,
    weights_digest,
    write_chain,
    write_targets,
)
from workflows.train_stage import StageInputs, StageResult, train_stage

STAGES = ("stage1", "stage2")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory, chain: dict[str, Any]) -> str:
    storage = LocalStorage(tmp_path_factory.mktemp("targets"))
    return write_targets(storage, [tiny_target(k, weights_digest(chain)) for k in range(6)])


@pytest.fixture
def config(chain: dict[str, Any]) -> DistillConfig:
    return tiny_distill(chain)


def run(
    stage: Any, config: DistillConfig, targets: str, folder: str, stop_at: int = 0, **inputs: Any
) -> StageResult:
    stop = Stop()

    def on_event(kind: str, step: int, _: object) -> None:
        if kind == "train" and step == stop_at:
            stop.request(signal.SIGTERM)

    given = StageInputs(targets=targets, conditions=targets, **inputs)
    return train_stage(stage, config, given, folder, stop, on_event=on_event)


@pytest.fixture(scope="module")
def straight(
    chain: dict[str, Any], targets: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, StageResult]:
    """Both stages without any disturbance."""
    folder = tmp_path_factory.mktemp("straight")
    return {s: run(s, tiny_distill(chain), targets, str(folder / s)) for s in STAGES}


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def equal(a: Path, b: Path) -> bool:
    one, other = tensors(a), tensors(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stopped_stage_goes_on_to_the_same_weights(
    stage: str,
    config: DistillConfig,
    targets: str,
    straight: dict[str, StageResult],
    tmp_path: Path,
) -> None:
    whole = straight[stage]
    folder = Path(whole.folder)
    assert whole.complete
    assert whole.weights == str(folder / "weights.safetensors")
    assert (whole.step, whole.made) == (6, 6)
    first = run(stage, config, targets, str(tmp_path / "halves"), stop_at=2)
    assert not first.complete
    assert not first.weights
    assert first.signal == signal.SIGTERM
    assert first.step == 3  # the wish is heard after the next step
    second = run(stage, config, targets, str(tmp_path / "halves"))
    assert (second.step, second.made, second.complete) == (6, 3, True)
    assert equal(folder, tmp_path / "halves")
    assert second.numbers.keys() == whole.numbers.keys()
    sheet = np.asarray(Image.open(tmp_path / "halves/samples/step-000006.png"))
    same = np.asarray(Image.open(folder / "samples/step-000006.png"))
    assert np.array_equal(sheet, same)


def test_a_finished_stage_loads_nothing(
    config: DistillConfig,
    targets: str,
    straight: dict[str, StageResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = straight["stage1"]
    monkeypatch.setattr("workflows.train_stage.train", None)
    assert run("stage1", config, targets, whole.folder) == replace(whole, made=0)
    longer = replace(config, stage1_train=replace(config.stage1_train, steps=7))
    with pytest.raises(ConfigError, match=r"train\.steps: 6 -> 7"):
        run("stage1", longer, targets, whole.folder)


def test_a_damaged_newest_checkpoint_costs_steps_and_not_the_result(
    config: DistillConfig, targets: str, straight: dict[str, StageResult], tmp_path: Path
) -> None:
    run("stage1", config, targets, str(tmp_path / "hurt"), stop_at=4)
    newest = tmp_path / "hurt/checkpoints/step-000005.pt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    result = run("stage1", config, targets, str(tmp_path / "hurt"))
    assert result.made == 2  # from step 4
    assert equal(Path(straight["stage1"].folder), tmp_path / "hurt")
    problems = [e for e in read_events(LocalStorage(tmp_path / "hurt")) if e["kind"] == "damaged"]
    assert "sha256" in problems[0]["numbers"]["problem"]


def test_a_death_before_the_export_repeats_no_step(
    config: DistillConfig, targets: str, straight: dict[str, StageResult], tmp_path: Path
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actors.training.put_weights", dies)
        with pytest.raises(KeyboardInterrupt):
            run("stage1", config, targets, str(tmp_path / "late"))
    result = run("stage1", config, targets, str(tmp_path / "late"))
    assert (result.made, result.complete) == (0, True)
    assert equal(Path(straight["stage1"].folder), tmp_path / "late")


def test_other_inputs_are_refused_by_a_started_folder(
    config: DistillConfig, chain: dict[str, Any], targets: str, tmp_path: Path
) -> None:
    run("stage1", config, targets, str(tmp_path / "stage"), stop_at=2)
    other = write_targets(
        LocalStorage(tmp_path / "other"),
        [tiny_target(k, weights_digest(chain)) for k in range(1, 7)],
    )
    with pytest.raises(ConfigError, match=r"data\.digest"):
        run("stage1", config, other, str(tmp_path / "stage"))
    lower = replace(config, stage1_train=replace(config.stage1_train, generator_rate=1e-4))
    with pytest.raises(ConfigError, match=r"generator_rate: 0\.001 -> 0\.0001"):
        run("stage1", lower, targets, str(tmp_path / "stage"))


def test_stage2_starts_from_stage1_and_records_where_it_came_from(
    config: DistillConfig, targets: str, straight: dict[str, StageResult], tmp_path: Path
) -> None:
    pairs = replace(config, stage1=replace(config.stage1, regression_weight=1.0, vsd_weight=0.0))
    first = run("stage1", pairs, targets, str(tmp_path / "one"))
    assert "regression" in first.numbers
    second = run(
        "stage2", config, targets, str(tmp_path / "two"), init={"generator": first.weights}
    )
    record = json.loads((tmp_path / "two/stage.json").read_text())
    assert set(record["init"]) == {"generator"}
    assert second.complete
    assert not equal(tmp_path / "two", Path(straight["stage2"].folder))


@pytest.mark.parametrize(
    ("changes", "inputs", "match"),
    [
        ({}, {"targets": ""}, "no teacher targets"),
        ({"stage2": {"render_size": 16}}, {}, r"set stage2\.render_size=24"),
        ({"stage2_train": {"views": 9}}, {}, "a target has 3"),
        ({"train": {"workers": 2}}, {}, "inline trains in one process"),
    ],
)
def test_what_can_not_be_trained_is_refused(
    config: DistillConfig, targets: str, tmp_path: Path, changes: Any, inputs: Any, match: str
) -> None:
    for name, values in changes.items():
        config = replace(config, **{name: replace(getattr(config, name), **values)})
    with pytest.raises(ConfigError, match=match):
        run("stage2", config, **{"targets": targets, **inputs}, folder=str(tmp_path))


def test_targets_of_another_teacher_are_refused(config: DistillConfig, tmp_path: Path) -> None:
    foreign = write_targets(LocalStorage(tmp_path / "t"), [tiny_target(0, "another teacher")])
    with pytest.raises(ConfigError, match="made with weights another"):
        run("stage2", config, foreign, str(tmp_path / "stage"))


def test_unknown_stages_and_missing_conditions_are_refused(
    config: DistillConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no training stage 'stage3'"):
        run("stage3", config, "", str(tmp_path))
    with pytest.raises(ConfigError, match="no conditions"):
        run("stage1", config, "", str(tmp_path))


def test_a_licence_is_refused_before_anything_is_loaded(
    config: DistillConfig, targets: str, tmp_path: Path
) -> None:
    model = {**config.teacher.model}
    model["weights"] = {**model["weights"], "licence": "CC-BY-NC-4.0"}
    bound = replace(config, teacher=replace(config.teacher, model=model))
    with pytest.raises(ConfigError, match=r"CC-BY-NC-4\.0"):
        run("stage1", bound, targets, str(tmp_path / "stage"))
    assert not (tmp_path / "stage").exists()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoints(
    config: DistillConfig, targets: str, tmp_path: Path
) -> None:
    run("stage1", config, targets, str(tmp_path), stop_at=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "geco_core.distill.stage1.vsd_loss", lambda x0, *_, **__: x0.sum() * float("nan")
        )
        with pytest.raises(Fatal, match="nan at step 3"):
            run("stage1", config, targets, str(tmp_path))
    assert run("stage1", config, targets, str(tmp_path)).made == 3


def test_a_signal_saves_and_ends_with_a_result(
    config: DistillConfig, targets: str, tmp_path: Path
) -> None:
    def on_event(kind: str, step: int, _: object) -> None:
        if kind == "train" and step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    given = StageInputs(conditions=targets)
    result = train_stage("stage1", config, given, str(tmp_path), on_event=on_event)
    assert (result.step, result.complete, result.signal) == (3, False, signal.SIGINT)
    assert (tmp_path / "checkpoints/step-000003.pt").is_file()


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


def test_everything_in_a_bucket(
    config: DistillConfig,
    chain: dict[str, Any],
    straight: dict[str, StageResult],
    tmp_path: Path,
    moto: S3Server,
) -> None:
    uri = moto.create_bucket("training")
    with environment(moto.env):
        stored = write_targets(
            open_storage(f"{uri}/targets"),
            [tiny_target(k, weights_digest(chain)) for k in range(6)],
        )
        run("stage1", config, stored, f"{uri}/stage1", stop_at=2)
        result = run("stage1", config, stored, f"{uri}/stage1")
        assert (result.made, result.weights) == (3, f"{uri}/stage1/weights.safetensors")
        storage = open_storage(f"{uri}/stage1")
        (tmp_path / "back").mkdir()
        (tmp_path / "back/weights.safetensors").write_bytes(storage.get("weights.safetensors"))
        kinds = {event["kind"] for event in read_events(storage)}
    assert {"started", "train", "samples", "checkpoint", "stopped", "finished"} <= kinds
    assert equal(Path(straight["stage1"].folder), tmp_path / "back")
