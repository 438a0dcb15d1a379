"""CLIP similarity over a tiny random tower saved as the hub's folders are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from geco_core.errors import ConfigError
from geco_core.evaluate.clip_score import FOLDER, load_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole CLIP model, text tower too, as the published folder holds it."""
    small = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }  # fmt: skip
    text = CLIPTextConfig(vocab_size=50, max_position_embeddings=8, projection_dim=12, **small)
    vision = CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=12, **small)
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12
    )
    with torch.random.fork_rng():
        torch.set_rng_state(torch.Generator().manual_seed(0).get_state())
        CLIPModel(config).save_pretrained(tmp_path / FOLDER, safe_serialization=True)
    return tmp_path


def test_similarity_is_the_cosine_of_the_towers_embeddings(folder: Path) -> None:
    metric = load_clip(folder)
    a, b = torch.rand((2, 3, 3, 48, 48), generator=torch.Generator().manual_seed(1))
    assert metric(a, a).tolist() == pytest.approx([1.0] * 3, abs=1e-6)
    found = metric(a, b)
    assert found.shape == (3,)
    assert float(found.max()) < 1.0 - 1e-6
    torch.testing.assert_close(found, metric(b, a))
    whole = CLIPModel.from_pretrained(folder / FOLDER).eval()
    at_size = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    with torch.no_grad():
        pooled = whole.vision_model(pixel_values=(at_size - mean) / std).pooler_output
        expected = whole.visual_projection(pooled)
    torch.testing.assert_close(metric.embed(at_size), expected, atol=1e-4, rtol=1e-4)


def test_missing_and_damaged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_clip(tmp_path / "nothing")
    command = "hf download openai/clip-vit-large-patch14 config.json model.safetensors"
    assert caught.value.remedy.count(command) == 1
    (folder / FOLDER / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigError, match="does not load"):
        load_clip(folder)
