"""The recipes of the micro weights: waves that two cores can run, settings named like stages."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

from geco_core.config import load as config_load
from geco_core.errors import Fatal
from geco_core.training import crm_recipe, recipe
from geco_core.training.loop import LoopConfig
from workflows.micro_recipes import RECIPES, micro_recipe

GUIDE = Path(__file__).parent.parent.parent / "docs" / "guide" / "training.md"


@pytest.mark.parametrize("system", list(RECIPES))
def test_every_loop_belongs_to_a_stage_and_waves_are_narrow(system: str) -> None:
    found = micro_recipe(system)
    stages = [stage for wave in found.waves for stage in wave]
    assert stages[0] == "cache"
    assert len(stages) == len(set(stages))
    assert max(len(wave) for wave in found.waves) == 2
    config = found.config()
    loops = {f.name for f in dataclasses.fields(config)
             if isinstance(getattr(config, f.name), LoopConfig)}  # fmt: skip
    assert loops <= set(stages)
    assert {"reconstructor"} <= loops
    assert config_load.preset_path(system, "micro").is_file()


def test_the_stages_are_those_that_a_run_knows() -> None:
    """Waves name each stage once, and the libraries refuse any other."""
    for module, run in ((recipe, recipe.run_stage), (crm_recipe, crm_recipe.run_crm_stage)):
        assert tuple(s for wave in module.WAVES for s in wave) == module.STAGES
        assert list(inspect.signature(run).parameters)[:5] == [
            "stage", "space", "report", "evaluated", "progress",
        ]  # fmt: skip


@pytest.mark.parametrize("system", list(RECIPES))
def test_the_guide_lists_the_waves(system: str) -> None:
    waves = (" and ".join(f"`{stage}`" for stage in wave) for wave in RECIPES[system].waves)
    assert f"| `{system}` | {'; '.join(waves)} |" in GUIDE.read_text()


def test_other_systems_are_refused_with_those_there_are() -> None:
    with pytest.raises(Fatal, match="no micro recipe for 'zero123'") as caught:
        micro_recipe("zero123")
    assert "geco train-micro crm" in caught.value.remedy
    assert caught.value.remedy.endswith("or geco train-micro geco")
