"""Published state dicts: names, renames, refusals."""

from __future__ import annotations

import pytest
import torch

from geco_core.errors import Fatal
from geco_core.multiview.published import load_part, load_ramp, part_modules, published_shapes
from geco_core.multiview.zero123plus import Zero123Plus


def published_state(model: Zero123Plus, part: str) -> dict[str, torch.Tensor]:
    module = part_modules(model)[part]
    names = published_shapes(model, part)
    return dict(zip(names, [v.clone() for v in module.state_dict().values()], strict=True))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "vision_encoder"])
def test_a_part_loads_what_it_saved(published: Zero123Plus, part: str) -> None:
    state = published_state(published, part)
    changed = {name: value + 1 for name, value in state.items()}
    report = load_part(published, part, changed)
    assert report.loaded == len(state)
    name = next(iter(state))
    found = published_state(published, part)[name]
    torch.testing.assert_close(found, state[name] + 1)
    load_part(published, part, state)


def test_the_text_prefix_is_stripped_and_reported(published: Zero123Plus) -> None:
    state = published_state(published, "text_encoder")
    assert all(name.startswith("text_model.") for name in state)
    state["text_model.embeddings.position_ids"] = torch.arange(5)[None]
    report = load_part(published, "text_encoder", state)
    assert report.dropped == ("text_model.embeddings.position_ids",)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("conv_in.weight"), "conv_in.weight is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda s: s.update({"conv_in.bias": torch.zeros(3)}), r"shape \[3\], not \[8\]"),
    ],
)
def test_surprises_are_refused(published: Zero123Plus, spoil: object, message: str) -> None:
    state = published_state(published, "unet")
    spoil(state)  # pyright: ignore[reportCallIssue]
    with pytest.raises(Fatal, match=message):
        load_part(published, "unet", state)


def test_the_patch_codec_has_no_published_part(micro: Zero123Plus) -> None:
    assert set(part_modules(micro)) == {"unet", "text_encoder", "vision_encoder"}


def test_ramp_of_a_checkpoint(published: Zero123Plus) -> None:
    before = published.ramp.clone()
    load_ramp(published, [0.5, 0.4, 0.3, 0.2, 0.1])
    torch.testing.assert_close(published.ramp, torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1]))
    load_ramp(published, before.tolist())
    with pytest.raises(Fatal, match="2 ramping"):
        load_ramp(published, [0.0, 1.0])


def test_full_size_part_sizes() -> None:
    from geco_core.config.models import MultiViewConfig

    with torch.device("meta"):
        model = Zero123Plus(MultiViewConfig())
    sizes = {
        part: sum(p.numel() for p in module.parameters())
        for part, module in part_modules(model).items()
    }
    assert sizes == {
        "unet": 865_910_724,
        "vae": 83_653_863,
        "text_encoder": 340_387_840,
        "vision_encoder": 632_076_800,
    }
    assert model.latent_shape == (4, 120, 80)
    assert model.condition_shape == (4, 64, 64)
