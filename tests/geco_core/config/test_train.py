"""Configuration of `geco train`: the paper's numbers, and mistakes that name the remedy."""

from __future__ import annotations

import pytest

from geco_core.config.load import build, load, preset_path, to_dict
from geco_core.config.train import CrmTrainingConfig, UpdatesConfig
from geco_core.errors import ConfigError

PUBLISHED = ("crm-views", "crm-ccm", "crm-reconstructor")


@pytest.mark.parametrize("name", [*PUBLISHED, "crm-micro-smoke"])
def test_presets_load_and_come_back_from_plain_data(name: str) -> None:
    config = load(CrmTrainingConfig, preset_path("train", name))
    assert config.name == name
    assert build(CrmTrainingConfig, to_dict(config)) == config


def test_the_diffusion_presets_are_the_papers() -> None:
    for name, fronts in (("crm-views", {0, 1, 2, 3, 4, 5}), ("crm-ccm", {0, 1, 3, 4})):
        config = load(CrmTrainingConfig, preset_path("train", name))
        updates, examples = config.updates, config.examples
        piece = updates.batch_size / config.train.workers / updates.accumulation
        assert (piece, config.train.workers, updates.accumulation) == (16, 8, 12)
        assert (updates.steps, updates.rate, config.seed) == (10_000, 5e-5, 1234)
        assert (updates.betas, updates.weight_decay) == ((0.9, 0.999), 0.01)
        assert updates.clip_norm is updates.ema_decay is None
        assert updates.precision == "float16"
        assert set(examples.fronts) == fronts
        assert examples.content_ratio == 0.95
        assert config.loss.per_frame_times
        assert config.loss.condition_dropout == config.loss.last_step_share == 0.0
        assert (examples.stroke_share, examples.content_scale) == (
            (0.5, (0.5, 1.0)) if name == "crm-views" else (0.0, (1.0, 1.0))
        )


def test_the_reconstructor_preset_is_the_papers() -> None:
    config = load(CrmTrainingConfig, preset_path("train", "crm-reconstructor"))
    updates, render = config.updates, config.render
    assert (updates.batch_size, config.train.workers, updates.steps) == (32, 8, 110_000)
    assert (updates.rate, updates.decay_steps, updates.warmup_steps) == (1e-4, 0, 0)
    weights = render.weights()
    assert [weights[n] for n in ("image", "lpips", "depth", "mask")] == [1.0, 0.1, 0.5, 0.5]
    assert render.regularisation_weight == 0.005
    assert (render.render_size, render.views_per_step) == (256, 8)


def test_a_constant_rate_does_not_fall() -> None:
    found = UpdatesConfig(steps=10).optimise(3)
    assert [found.factor(step) for step in range(10)] == [1.0] * 10
    assert (found.seed, found.clip_norm) == (3, float("inf"))


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ("updates.rates=1", "did you mean 'rate'"),
        ("training=view", "did you mean 'views'"),
        ("updates.precision=fp16", "precision can not be 'fp16'"),
        ("updates.clip_norm=0", "positive or null"),
        ("updates.ema_decay=1.0", "within 0 and 1"),
        ("updates.steps=0", "must be positive"),
        ("examples.fronts=[6]", "within 0 and 5"),
        ("examples.content_scale=[1.0,0.5]", "must rise"),
        ("examples.content_ratio=0.0", "above 0"),
        ("examples.stroke_share=2.0", "within 0 and 1"),
        ("examples.threads=-1", "must not be negative"),
    ],
)
def test_mistakes_are_named(word: str, match: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(CrmTrainingConfig, preset_path("train", "crm-micro-smoke"), [word])
    assert match in f"{caught.value.message} {caught.value.remedy}"


def test_a_near_preset_is_suggested() -> None:
    with pytest.raises(ConfigError) as caught:
        preset_path("train", "crm-view")
    assert "train-crm-views" in caught.value.remedy
