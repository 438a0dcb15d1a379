"""The folder of a training of micro CRM: models come out the same way in every stage."""

from __future__ import annotations

from pathlib import Path

import torch

from geco_core.training.crm_examples import CrmCacheSpec, make_crm_examples
from geco_core.training.crm_workspace import CrmRecipeConfig, CrmWorkspace


def test_examples_have_the_sizes_of_the_preset(tmp_path: Path) -> None:
    space = CrmWorkspace(tmp_path, CrmRecipeConfig(examples=2, heldout_examples=1))
    seen: list[tuple[int, int]] = []
    train, heldout = space.caches(1, lambda done, total: seen.append((done, total)))
    assert (train.spec.split, heldout.spec.split) == ("train", "heldout")
    assert (len(train), len(heldout)) == (2, 1)
    size = space.config.diffusion.encoders.image_size
    assert train.views(torch.tensor([1])).shape == (1, 6, 3, size, size)
    assert space.caches(1, lambda *_: seen.append((-1, -1)))[0].spec == train.spec
    assert (-1, -1) not in seen  # what is there is opened


def test_trained_stages_are_sampled_as_the_recipe_says(tmp_path: Path) -> None:
    space = CrmWorkspace(tmp_path, CrmRecipeConfig(codec_rows=1))
    examples = make_crm_examples(CrmCacheSpec(examples=1, sdf_points=8, color_points=8))
    fresh = space.new_diffusion(examples)
    for stage in ("views", "ccm"):
        space.weights(stage).parent.mkdir()
        torch.save(getattr(fresh, stage).state_dict(), space.weights(stage))
    model = space.trained_diffusion(examples)
    sampler = space.recipe.sampler
    assert model.config.views_sampler == model.config.ccm_sampler == sampler
    assert space.config.diffusion.views_sampler != sampler
    assert not model.training


def test_a_new_reconstructor_starts_as_the_ball(tmp_path: Path) -> None:
    space = CrmWorkspace(tmp_path, CrmRecipeConfig())
    first, again = space.new_reconstructor(), space.new_reconstructor()
    assert torch.equal(first.unet.learned_plane, again.unet.learned_plane)
    assert float(first.decoder.geometry_head.last.weight.detach().abs().max()) == 0.0
