"""`geco distill` around its steps: what is refused, what runs, what is told, how it ends.

The teacher, the engine and the trainer have tests of their own; here they are small fakes.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.config.distill import DistillConfig
from geco_core.config.load import load, preset_path
from geco_core.errors import ConfigError, Fatal
from infra.claim import Claim
from infra.stages import put_stage_file
from infra.storage import LocalStorage
from infra.training_folder import WEIGHTS_KEY
from tests.workflows.noop_runs import generate, image_manifest
from workflows import cli, distill_steps
from workflows.dag import Step, StepState
from workflows.dag_record import fingerprints
from workflows.distill import distill, distill_config, exit_code, share, summary
from workflows.distill_plan import plan_steps, preview
from workflows.distill_steps import build_steps

Capture = pytest.CaptureFixture[str]
INLINE = "train.engine=inline"
SMALL = (INLINE, "conditions.objects=3", "conditions.heldout=2")


@dataclass
class Fakes:
    """What ran, with which arguments; `broken` steps raise, `signalled` gets a SIGTERM."""

    ran: list[str] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)
    broken: dict[str, Exception] = field(default_factory=dict)
    signalled: str = ""

    def note(self, name: str, **given: Any) -> None:
        self.ran.append(name)
        self.given[name] = given
        if name in self.broken:
            raise self.broken[name]

    def rows(self, name: str, out: str, manifest: str, rows: int) -> SimpleNamespace:
        LocalStorage(Path(out)).put_atomic("run.json", b"{}")
        self.note(name, out=out, manifest=manifest)
        state = SimpleNamespace(counts={"done": rows}, failed=0)
        plan = SimpleNamespace(rows=rows)
        return SimpleNamespace(state=state, plan=plan, complete=True, stopped="", signal=0)

    def targets(self, config: DistillConfig, manifest: str, out: str, **more: Any) -> Any:
        result = self.rows("targets", out, manifest, 3)
        self.given["targets"] |= {"store": config.targets.store, **more}
        return result

    def generate(self, config: Any, **more: Any) -> Any:
        result = self.rows("generate", config.out, config.manifest, 2)
        self.given["generate"] |= {"config": config}
        return result

    def train_stage(
        self, stage: str, config: DistillConfig, inputs: Any, folder: str, stop: Any, *,
        on_event: Any,
    ) -> Any:  # fmt: skip
        self.note(stage, inputs=inputs, folder=folder)
        on_event("train", 2, {"vsd": 0.5, "steps_per_s": 4.0})
        if stage == self.signalled:
            os.kill(os.getpid(), signal.SIGTERM)
            while not stop.requested:
                time.sleep(0.01)
            return SimpleNamespace(complete=False, steps=8)
        put_stage_file(LocalStorage(Path(folder)), WEIGHTS_KEY, stage.encode())
        return SimpleNamespace(complete=True, steps=8)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    made = Fakes()
    for name in ("targets", "generate", "train_stage"):
        monkeypatch.setattr(distill_steps, name, getattr(made, name))
    monkeypatch.setattr(distill_steps, "load_tensors", lambda *_: {})

    def export(config: Any, stage1: Any, stage2: Any, context: Any) -> Any:
        key = context.key("student/multiview.safetensors")
        put_stage_file(context.storage, key, b"x")
        return {"multiview": key, "multiview_sha256": "0" * 64}, {key: "0" * 64}

    def evaluate(config: Any, context: Any, progress: Any) -> Any:
        made.note("evaluate")
        key = context.key("ablation.json")
        content = {"variants": {}, "about": {}, "against": "teacher", "objects": 2, "seeds": [0]}
        put_stage_file(context.storage, key, json.dumps(content).encode())
        return distill_steps.StepOutputs({"table": key}, {key: "0" * 64})

    monkeypatch.setattr(distill_steps, "export_student", export)
    monkeypatch.setattr(distill_steps, "evaluate_student", evaluate)
    return made


def smoke(run: Path, *words: str) -> DistillConfig:
    return distill_config("micro-smoke", None, [*SMALL, *words], str(run))


def test_every_step_runs_on_what_it_needs_and_the_second_time_none(
    tmp_path: Path, fakes: Fakes
) -> None:
    config = smoke(tmp_path / "run")
    result = distill(config)
    assert result.dag.complete
    assert exit_code(result) == 0
    assert sorted(fakes.ran) == ["evaluate", "generate", "stage1", "stage2", "targets"]
    outputs = {name: record.outputs for name, record in result.dag.records.items()}
    train = f"{tmp_path}/run/{outputs['conditions']['train']}"
    assert fakes.given["targets"]["manifest"] == train
    assert fakes.given["targets"]["words"] == ["engine=inline"]
    assert fakes.given["stage1"]["inputs"].conditions == train
    assert fakes.given["stage1"]["inputs"].targets == ""
    made = f"{tmp_path}/run/{outputs['targets']['targets']}"
    inputs = fakes.given["stage2"]["inputs"]
    assert inputs.targets == made
    assert inputs.init == {"generator": f"{tmp_path}/run/{outputs['stage1']['weights']}"}
    run = fakes.given["generate"]["config"]
    assert run.model["weights"]["multiview"].startswith(f"{tmp_path}/run/stages/stage2/")
    assert run.model["weights"]["multiview_sha256"] == "0" * 64
    assert run.model["sampler"]["kind"] == "one_step"
    assert pq.read_table(run.manifest).num_rows == 2
    assert Path(result.report).is_file()
    fakes.ran.clear()
    again = distill(config)
    assert fakes.ran == []
    assert set(again.dag.states.values()) == {StepState.KEPT}
    assert "done before" in summary(again, config.out)


def test_targets_are_kept_by_content_beside_the_steps(tmp_path: Path, fakes: Fakes) -> None:
    distill(smoke(tmp_path / "run"))
    assert fakes.given["targets"]["store"] == f"{tmp_path}/run/targets-store"
    distill(smoke(tmp_path / "other", f"targets.store={tmp_path}/shared"))
    assert fakes.given["targets"]["store"] == f"{tmp_path}/shared"


def test_a_change_runs_what_depends_on_it_alone(tmp_path: Path, fakes: Fakes) -> None:
    distill(smoke(tmp_path / "run"))
    fakes.ran.clear()
    distill(smoke(tmp_path / "run", "stage2_train.steps=9"))
    assert fakes.ran == ["stage2", "evaluate", "generate"]
    fakes.ran.clear()
    distill(smoke(tmp_path / "run", "evaluate_seeds=[5]"))
    assert fakes.ran == ["stage2", "evaluate", "generate"], "back to 8 updates, with a new seed"


@pytest.mark.parametrize(
    "word",
    [
        "train.workers=2", "train.checkpoint_every=3", "stage1_train.accumulation=2",
        "targets.workers=1", "teacher.model.device=cpu", "teacher.model.batch_size=2",
        "train.gradient_checkpointing=true", "targets.store=/elsewhere",
    ],
)  # fmt: skip
def test_how_it_is_executed_changes_no_fingerprint(tmp_path: Path, word: str) -> None:
    assert prints(smoke(tmp_path)) == prints(smoke(tmp_path, word))


@pytest.mark.parametrize(
    ("word", "first"),
    [
        ("seed=1", "targets"), ("conditions.objects=4", "conditions"),
        ("conditions.heldout=3", "conditions"), ("targets.renders=5", "targets"),
        ("stage1.student_steps=2", "stage1"), ("train.student_rank=4", "stage1"),
        ("stage2.mask_weight=2", "stage2"), ("teacher.model.sampler.steps=5", "targets"),
        ("evaluate_seeds=[3]", "evaluate"),
    ],
)  # fmt: skip
def test_what_decides_the_result_changes_the_fingerprint(
    tmp_path: Path, word: str, first: str
) -> None:
    old, new = prints(smoke(tmp_path)), prints(smoke(tmp_path, word))
    changed = [name for name in old if old[name] != new[name]]
    assert changed[0] == first
    assert {"evaluate", "generate"} <= set(changed)


def prints(config: DistillConfig) -> Mapping[str, str]:
    return fingerprints(build_steps(config))


def needs(steps: list[Step]) -> dict[str, tuple[str, ...]]:
    return {step.name: step.needs for step in steps}


def test_the_graph_follows_the_configuration(tmp_path: Path) -> None:
    config = smoke(tmp_path)
    assert needs(build_steps(config))["stage1"] == ("conditions",)
    pairs = replace(config, stage1=replace(config.stage1, regression_weight=1.0))
    assert needs(build_steps(pairs))["stage1"] == ("conditions", "targets")
    bare = replace(config, conditions=replace(config.conditions, heldout=0))
    assert list(needs(build_steps(bare))) == ["conditions", "targets", "stage1", "stage2"]
    silent = replace(config, generate=False)
    assert "generate" not in needs(build_steps(silent))


def test_a_manifest_of_ones_own_is_known_by_its_content(tmp_path: Path, fakes: Fakes) -> None:
    manifest = tmp_path / "m.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "image": ["a.png", "b.png"]}), manifest)
    config = smoke(tmp_path / "run", f"conditions.manifest={manifest}")
    first = prints(config)
    distill(config)
    assert fakes.given["targets"]["manifest"] == str(manifest)
    pq.write_table(pa.table({"id": ["a", "c"], "image": ["a.png", "c.png"]}), manifest)
    assert prints(config)["conditions"] != first["conditions"]


def test_a_manifest_may_move_between_two_commands(tmp_path: Path, fakes: Fakes) -> None:
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "image": ["a.png", "b.png"]}), old)
    fakes.broken = {"targets": Fatal("no device"), "stage1": Fatal("no device")}
    distill(smoke(tmp_path / "run", f"conditions.manifest={old}"))
    old.rename(new)
    fakes.broken.clear()
    result = distill(smoke(tmp_path / "run", f"conditions.manifest={new}"))
    assert result.dag.states["conditions"] is StepState.KEPT
    assert fakes.given["targets"]["manifest"] == str(new)
    assert fakes.given["stage1"]["inputs"].conditions == str(new)


def test_a_failure_is_told_with_its_remedy_and_ends_with_3(
    tmp_path: Path, fakes: Fakes, capsys: Capture
) -> None:
    fakes.broken["stage1"] = Fatal("the loss is nan at step 3", remedy="lower the learning rates")
    words = ["distill", "--preset", "micro-smoke", "--out", str(tmp_path / "run"), *SMALL]
    assert cli.main(words) == cli.STOPPED
    text = capsys.readouterr().out
    assert "failed       the loss is nan at step 3; lower the learning rates" in text
    assert "targets     done now" in text, "the other branch goes on"
    assert "stage2      skipped" in text
    assert "the same command goes on" in text
    page = (tmp_path / "run/report/index.html").read_text()
    assert "stage1 failed" in page
    fakes.broken.clear()
    assert cli.main(["distill", "--out", str(tmp_path / "run")]) == cli.OK, "the folder knows"


def test_a_licence_that_was_not_acknowledged_is_refused_before_any_work(
    tmp_path: Path, fakes: Fakes, capsys: Capture
) -> None:
    words = ["distill", "--preset", "micro-smoke", "--out", str(tmp_path / "run"), *SMALL]
    secret = "teacher.model.weights.licence=CC-BY-NC-4.0"
    path = tmp_path / "views.safetensors"
    path.write_bytes(b"")
    own = f"teacher.model.weights.multiview={path}"
    assert cli.main([*words, secret, own]) == cli.REFUSED
    assert "teacher.acknowledge_licences" in capsys.readouterr().err
    assert fakes.ran == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("stage2.render_size=64", "renders of 32 pixels, Stage II makes 64"),
        ("stage2_train.views=5", "draws 5 renders, a target has 4"),
    ],
)
def test_targets_that_stage_two_could_not_use_are_refused_before_any_work(
    tmp_path: Path, fakes: Fakes, word: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        distill(smoke(tmp_path / "run", word))
    assert fakes.ran == []


def test_a_folder_at_work_or_of_another_kind_is_refused(tmp_path: Path, fakes: Fakes) -> None:
    config = smoke(tmp_path / "run")
    storage = LocalStorage(tmp_path / "run")
    with Claim(storage, "other", lambda: None), pytest.raises(ConfigError, match="at work"):
        distill(config)
    with pytest.raises(ConfigError, match="--out"):
        distill(replace(config, out=""))
    with pytest.raises(ConfigError, match="nothing says what to distil"):
        distill_config(None, None, [], str(tmp_path / "empty"))
    generate(image_manifest(tmp_path, 2, ()), tmp_path / "dataset")
    for command in (distill, preview):
        with pytest.raises(ConfigError, match="is a run of geco generate"):
            command(smoke(tmp_path / "dataset"))
    assert fakes.ran == []


def test_a_signal_ends_it_with_143_and_the_same_command_goes_on(
    tmp_path: Path, fakes: Fakes, capsys: Capture
) -> None:
    fakes.signalled = "stage2"
    words = ["distill", "--preset", "micro-smoke", "--out", str(tmp_path / "run"), *SMALL]
    assert cli.main(words) == cli.TERMINATED
    told = capsys.readouterr()
    assert "stage2      stopped" in told.out
    assert "evaluate    stopped" in told.out
    assert f"resume with: geco {' '.join(words)}" in told.err
    fakes.signalled = ""
    fakes.ran.clear()
    assert cli.main(words) == cli.OK
    assert fakes.ran == ["stage2", "evaluate", "generate"]


def test_only_the_wanted_steps(tmp_path: Path, fakes: Fakes) -> None:
    result = distill(smoke(tmp_path / "run"), wanted=["stage1"])
    assert fakes.ran == ["stage1"]
    assert set(result.dag.states) == {"conditions", "stage1"}


def test_branches_share_a_machine_only_where_both_have_room(tmp_path: Path) -> None:
    config, both = smoke(tmp_path), ("stage1", "targets", "stage2")
    assert share(config, both, {}) == (1, config)
    assert share(config, both, {"CPU": 1})[0] == 1
    assert share(config, ("stage2",), {"CPU": 8})[0] == 1
    at_once, shared = share(config, both, {"CPU": 2})
    assert (at_once, shared.targets.workers) == (2, 1)
    assert share(config, both, {"CPU": 16})[1].targets.workers == 2
    assert share(config, both, {"CPU": 16, "GPU": 1})[0] == 1
    assert share(config, both, {"CPU": 16, "GPU": 8})[1].targets.workers == 7
    fixed = replace(config, targets=replace(config.targets, workers=4))
    assert share(fixed, both, {"CPU": 2}) == (1, fixed)
    assert share(fixed, both, {"CPU": 5}) == (2, fixed)


def test_the_plan_tells_what_will_run_why_and_where_rates_come_from(
    tmp_path: Path, fakes: Fakes
) -> None:
    config = smoke(tmp_path / "run")
    text = preview(config)
    assert "stage2      stage1, targets" in text
    assert "unknown: not measured in this run folder yet" in text
    assert "estimated unknown" in text
    assert not (tmp_path / "run").exists(), "a plan makes nothing"
    assert preview(replace(config, out="")) == text, "it needs no folder"
    distill(config)
    assert "everything is done" in preview(config)
    plans = {p.name: p for p in plan_steps(smoke(tmp_path / "run", "stage1_train.steps=80"),
                                           LocalStorage(tmp_path / "run"))}  # fmt: skip
    assert [name for name, plan in plans.items() if plan.will_run] == [
        "stage1", "stage2", "evaluate", "generate",
    ]  # fmt: skip
    assert plans["stage1"].standing.why == ("stage1_train.steps: 8 -> 80",)
    assert plans["stage1"].cost.source == "measured over 8 steps, with other settings"
    assert plans["stage1"].left == 80
    assert plans["stage1"].seconds == pytest.approx(80 * (plans["stage1"].cost.seconds or 0))
    assert plans["conditions"].seconds == 0


@pytest.mark.parametrize("name", ["micro-smoke", "micro", "full"])
def test_shipped_presets_load(name: str) -> None:
    config = load(DistillConfig, preset_path("distill", name))
    assert config.name == name
    build_steps(config)
