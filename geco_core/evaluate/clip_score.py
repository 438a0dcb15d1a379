"""CLIP similarity: cosine of the image embeddings of a render and its reference render.

CRM (arXiv 2403.05034) reports it as Clip-Similarity without naming the model; here it is the
image tower of OpenAI's CLIP (Radford et al., arXiv 2103.00020) that the user puts into the folder.

Legend: V images, S side in pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from geco_core.errors import ConfigError
from geco_core.evaluate.metric_weights import WeightsFile, require

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

REPOSITORY = "openai/clip-vit-large-patch14"
FOLDER = "clip-vit-large-patch14"
_NAMES = ("config.json", "model.safetensors")
_COMMAND = f"hf download {REPOSITORY} {' '.join(_NAMES)} --local-dir {{folder}}/{FOLDER}"
FILES = [
    WeightsFile(f"{FOLDER}/{name}", f"{REPOSITORY} of the hub", "MIT", _COMMAND) for name in _NAMES
]
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_BATCH = 16


class ClipSimilarity:
    """Cosines of image embeddings.

    Args:
        tower: an image tower with its projection.
    """

    def __init__(self, tower: CLIPVisionModelWithProjection) -> None:
        self._tower = tower.eval().requires_grad_(False)
        side: Any = tower.config.image_size
        self._size = int(side)

    @torch.no_grad()
    def __call__(self, images: Tensor, reference: Tensor) -> Tensor:
        """Cosines [V] in [-1, 1] of images [V, 3, S, S] in [0, 1]."""
        ours, theirs = self.embed(images), self.embed(reference)
        return F.cosine_similarity(ours, theirs, dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """Projected embeddings [V, E], not normalised."""
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        found = []
        for chunk in images.split(_BATCH):
            scaled = F.interpolate(
                chunk.float(), (self._size, self._size), mode="bicubic", antialias=True
            )
            pixels = (scaled.clamp(0, 1) - mean) / std
            found.append(self._tower(pixel_values=pixels).image_embeds)
        return torch.cat(found)


def load_clip(folder: Path) -> ClipSimilarity:
    """The similarity with the weights in a folder of metric weights.

    Raises:
        ConfigError: files are missing (the remedy gets them) or do not load.
    """
    config, _ = require("clip", FILES, folder)
    from transformers import CLIPVisionModelWithProjection  # noqa: PLC0415 - seconds to import

    try:
        tower = CLIPVisionModelWithProjection.from_pretrained(
            config.parent, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ConfigError(
            f"{config.parent} does not load as a CLIP model: {error}",
            remedy=f"download {REPOSITORY} again",
            stage="load",
        ) from error
    return ClipSimilarity(tower)
