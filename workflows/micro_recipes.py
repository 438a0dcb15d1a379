"""The seeded recipes of the micro weights, by the system that they are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geco_core.errors import Fatal
from geco_core.training import crm_recipe, crm_workspace, recipe
from geco_core.training.export import export_crm_weights, export_weights


@dataclass(frozen=True)
class MicroRecipe:
    """What `train_micro` needs to know of a recipe.

    Attributes:
        config: dataclass of its settings; a stage's loop has the name of the stage.
        waves: stages in order; those of one wave run at once.
        workspace: (folder, settings) -> what the stages share.
        run_stage: (stage, workspace, report, evaluated, progress) runs one to its end, and returns
            at once where it is finished.
        export: (workspace, folder) writes the finished weights and returns their folder.
    """

    config: type[Any]
    waves: tuple[tuple[str, ...], ...]
    workspace: Callable[[Path, Any], Any]
    run_stage: Callable[..., None]
    export: Callable[[Any, Path], Path]


RECIPES: Mapping[str, MicroRecipe] = {
    "instantmesh": MicroRecipe(
        recipe.RecipeConfig, recipe.WAVES, recipe.Workspace, recipe.run_stage, export_weights
    ),
    "crm": MicroRecipe(
        crm_workspace.CrmRecipeConfig,
        crm_recipe.WAVES,
        crm_workspace.CrmWorkspace,
        crm_recipe.run_crm_stage,
        export_crm_weights,
    ),
}


def micro_recipe(system: str) -> MicroRecipe:
    """The recipe of a system. Raises `Fatal` where there is none."""
    if system not in RECIPES:
        verbs = [f"geco train-micro {name}" for name in (*RECIPES, "geco")]
        raise Fatal(
            f"there is no micro recipe for {system!r}",
            remedy=f"{', '.join(verbs[:-1])} or {verbs[-1]}",
        )
    return RECIPES[system]
