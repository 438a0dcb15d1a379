"""The page of a distillation: what stands is shown, what is missing is named, nothing else is
needed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geco_core.errors import ConfigError
from infra.storage import LocalStorage
from tests.workflows.distill_report.runs import EVIL, GRAPH, write_distillation
from workflows import cli
from workflows.distill_report import build_distill_report
from workflows.distill_report.training import MAX_SHEETS, sample_sheets


def page(storage: LocalStorage) -> str:
    return Path(build_distill_report(storage)).read_text(encoding="utf-8")


def test_a_complete_run_is_shown_with_everything(tmp_path: Path) -> None:
    text = page(write_distillation(tmp_path / "run"))
    assert '<p class="badge good">complete</p>' in text
    assert text.count('class="step done"') == len(GRAPH)
    assert text.count('class="chart"') == 6
    assert text.count("data:image/png;base64,") == 8
    assert "<b>21.50</b><small>21.10 to 21.90</small>" in text
    assert "CC-BY-NC-4.0" in text
    assert "model.weights.multiview=" in text
    assert "model.sampler.kind=" in text
    assert 'class="mean better"' in text
    assert 'class="mean worse"' in text


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    storage = write_distillation(tmp_path / "run")
    assert page(storage) == page(storage)


def test_a_failure_is_named_and_the_rest_is_open(tmp_path: Path) -> None:
    text = page(write_distillation(tmp_path / "run", done=("conditions", "targets")))
    assert "stage1 failed</p>" in text
    assert '<p class="notice">stage1: no room is left</p>' in text
    assert text.count('class="step waiting"') == 3
    assert "Ablation" not in text
    assert "The distilled chain" not in text


def test_a_step_of_another_configuration_is_not_shown_as_done(tmp_path: Path) -> None:
    storage = write_distillation(tmp_path / "run")
    path = tmp_path / "run/workflow.json"
    path.write_text(path.read_text().replace("5" * 64, "f" * 64))
    text = page(storage)
    assert text.count('class="step done"') == len(GRAPH) - 1
    assert "Ablation" not in text


def test_nothing_is_loaded_from_elsewhere_and_texts_are_escaped(tmp_path: Path) -> None:
    storage = write_distillation(tmp_path / "run", evil=True, done=("conditions",))
    text = page(storage)
    assert EVIL not in text
    assert not re.findall(r"""<[^>]*(?:src|href)=["']?(?!data:)[^"'\s>]+""", text)
    assert "default-src &#39;none&#39;" in text


def test_many_sheets_are_thinned_out_and_the_last_stays(tmp_path: Path) -> None:
    storage = write_distillation(tmp_path / "run", sheets=40)
    sheets, left_out = sample_sheets(storage, f"stages/stage1/{'3' * 12}")
    steps = [step for step, _ in sheets]
    assert (len(steps), left_out) == (MAX_SHEETS, 40 - MAX_SHEETS)
    assert (steps[0], steps[-1]) == (100, 4000)


def test_geco_report_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_distillation(tmp_path / "run")
    assert cli.main(["report", str(tmp_path / "run")]) == cli.OK
    made = Path(capsys.readouterr().out.strip())
    assert made == tmp_path / "run/report/index.html"
    assert "GECO Forge distillation" in made.read_text()


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no distillation"):
        build_distill_report(tmp_path)
