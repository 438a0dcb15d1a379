"""`geco train` from objects to weights that the system's loaders read."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from actors.stop import Stop
from geco_core.checkpoints.crm import load_crm
from geco_core.checkpoints.origin import read_licences
from geco_core.checkpoints.safe import load_into, load_weights
from geco_core.config.run import ClusterConfig
from geco_core.config.train import CrmTrainingConfig, InitConfig
from geco_core.errors import ConfigError
from geco_core.multiview.crm import CrmDiffusion
from infra.storage import LocalStorage
from infra.training_folder import read_events
from tests.geco_core.reconstruct.crm_models import TINY
from tests.support.tiny_training import PATCH_CRM, tiny_training, written
from workflows import train as workflow
from workflows.cli import main
from workflows.train_plan import preview
from workflows.train_stage import StageInputs, StageResult, train_stage

TRAININGS = ("views", "ccm", "reconstructor")
OWN = InitConfig(licences=("Apache-2.0",))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("objects"))


def config(training: Any, data: str, out: Path, **updates: Any) -> CrmTrainingConfig:
    made = tiny_training(training, data, **{"steps": 4, **updates})
    return replace(made, out=str(out), init=OWN)


def equal(one: str, other: str) -> bool:
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def straight(data: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, StageResult]:
    """Each training without any disturbance."""
    folder = tmp_path_factory.mktemp("straight")
    return {t: workflow.train(config(t, data, folder / t)) for t in TRAININGS}


@pytest.mark.parametrize("training", TRAININGS)
def test_a_stopped_training_goes_on_to_the_same_weights(
    training: str, data: str, straight: dict[str, StageResult], tmp_path: Path
) -> None:
    whole = straight[training]
    assert (whole.step, whole.complete) == (4, True)
    stop, halves = Stop(), config(training, data, tmp_path / "halves")

    def on_event(kind: str, *_: object) -> None:
        if kind == "train":
            stop.request(signal.SIGTERM)

    first = train_stage(halves.stage, halves, StageInputs(), halves.out, stop, on_event=on_event)
    assert 0 < first.step < 4
    assert not first.complete
    second = workflow.train(halves)
    assert second.complete
    assert second.made == 4 - first.step
    assert equal(second.weights, whole.weights)
    kinds = {event["kind"] for event in read_events(LocalStorage(Path(halves.out)))}
    assert {"started", "train", "samples", "checkpoint", "finished"} <= kinds


def test_the_reconstructors_weights_load(straight: dict[str, StageResult]) -> None:
    loaded = load_crm(straight["reconstructor"].weights, TINY)
    assert loaded.licences == ("Apache-2.0",)


def test_stage_two_on_stage_one_gives_one_file_with_both(
    data: str, straight: dict[str, StageResult], tmp_path: Path
) -> None:
    first = straight["views"].weights
    second = config("ccm", data, tmp_path / "ccm", steps=2)
    result = workflow.train(replace(second, init=InitConfig(multiview=first)))
    model = CrmDiffusion(PATCH_CRM)
    load_into(model, load_weights(result.weights), "the diffusion half")
    views = load_file(first)
    assert all(torch.equal(v, views[f"views.{k}"]) for k, v in model.views.state_dict().items())
    assert read_licences(Path(result.weights)) == ("Apache-2.0",)
    record = json.loads((tmp_path / "ccm/stage.json").read_text())
    assert set(record["init"]) == {"multiview"}


def test_both_stages_alone_fit_the_same_codec(straight: dict[str, StageResult]) -> None:
    views, ccm = (load_file(straight[stage].weights) for stage in ("views", "ccm"))
    shared = [name for name in views if name.startswith("encoders.codec")]
    assert shared
    assert all(torch.equal(views[name], ccm[name]) for name in shared)


def test_other_settings_and_data_are_refused_by_a_started_folder(
    data: str, straight: dict[str, StageResult], tmp_path: Path
) -> None:
    folder = Path(straight["views"].folder)
    with pytest.raises(ConfigError, match=r"updates\.rate: 0\.001 -> 0\.01"):
        workflow.train(config("views", data, folder, rate=0.01))
    cut = config("views", data, folder, accumulation=4)
    assert workflow.train(cut).complete  # how, not what
    other = config("views", written(tmp_path / "five", 5), tmp_path / "begun")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/stage.json").write_bytes((folder / "stage.json").read_bytes())
    with pytest.raises(ConfigError, match=r"data\.digest"):
        workflow.train(other)


def test_the_plan_reads_no_weight(data: str, tmp_path: Path) -> None:
    told = preview(
        replace(config("ccm", data, tmp_path / "none"), init=InitConfig(network="no.pt"))
    )
    assert "6 objects to train on, 0 held out, 6 captions (not read" in told
    assert "start     network no.pt" in told
    assert "not begun" in told
    assert "render:" not in told
    assert not (tmp_path / "none").exists()


def test_fewer_objects_than_a_batch_are_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="6 objects to train on are fewer than a batch of 7"):
        workflow.train(config("views", data, tmp_path / "out", batch_size=7))
    assert not (tmp_path / "out").exists()


def test_more_processes_than_objects_of_a_batch_are_refused_by_the_plan_too(
    data: str, tmp_path: Path
) -> None:
    made = config("views", data, tmp_path / "out")
    many = replace(made, train=replace(made.train, engine="ray", workers=5))
    with pytest.raises(ConfigError, match="5 processes can not share a batch of 4"):
        preview(many)


def test_objects_without_an_index_are_not_hidden_by_made_up_ones(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "000.png"
    own.parent.mkdir()
    own.write_bytes(b"a picture")
    made = config("views", str(tmp_path), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"holds objects without caption\.csv, 'mine' first"):
        workflow.make_data(made, 2)
    assert list(tmp_path.rglob("*.png")) == [own]
    own.parent.rename(tmp_path / "train-000001")  # as an interrupted call would leave it
    assert workflow.make_data(made, 2) == 2


def test_the_verb_makes_objects_and_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny_training("views", steps=1)
    monkeypatch.setattr(
        workflow, "load", lambda *_: replace(made, train=replace(made.train, sample_every=0))
    )
    given = ["train", "--preset", "crm-micro-smoke", "--data", str(tmp_path / "objects")]
    given += ["--make-data", "4", "--out", str(tmp_path / "out")]
    assert main(given) == 0
    assert "model.weights.multiview=" in capsys.readouterr().out
    assert (tmp_path / "objects/caption.csv").is_file()
    assert (tmp_path / "out/weights.safetensors").is_file()
    assert main([*given, "--plan"]) == 0
    assert "finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--preset", "crm-vews"], "train-crm-views"),
        ([], "--preset crm-micro-smoke"),
        (["--preset", "crm-micro-smoke"], "--data"),
        (["--preset", "crm-micro-smoke", "updates.step=3"], "did you mean 'steps'"),
        (["--preset", "crm-views"], "set init.network to"),
    ],
)
def test_mistakes_are_answered_with_the_remedy(
    words: list[str], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--out", str(tmp_path / "out")]) == 2
    assert match in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_of_ray_train_give_one_result(
    data: str, straight: dict[str, StageResult], tmp_path: Path
) -> None:
    pytest.importorskip("pandas", reason='Ray Train needs it: pip install "ray[train]"')
    made = config("views", data, tmp_path / "ray")
    result = workflow.train(
        replace(
            made,
            train=replace(made.train, engine="ray", workers=2),
            cluster=ClusterConfig(num_cpus=2, num_gpus=0, object_store_mb=100),
        )
    )
    assert result.complete
    one, other = load_file(straight["views"].weights), load_file(result.weights)
    # Adam turns rounding of tiny gradients into steps of the rate: compare the mean.
    apart = [float((one[k] - other[k]).abs().mean()) for k in one if k.startswith("views.")]
    assert max(apart) < 4 * made.updates.rate * 0.25
