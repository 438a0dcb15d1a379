"""OpenCLIP's text and image towers and the latent codec, as ImageDream and CRM use them.

Follows ImageDream (arXiv 2312.02201). Text: states before the last block, then the final norm.
Image: states before the last block with the class token, without norm or projection. What differs:
the modules are transformers' own; prompts are token ids.

Legend: B batch, L text states of width D, N vision states of width V, P vision pixels, S image
pixels, c latent channels, h w latent size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from geco_core.config.crm import ConditionEncodersConfig
from geco_core.diffusion.affine import LatentAffine
from geco_core.diffusion.codec import build_codec
from geco_core.errors import ConfigError


class ConditionEncoders(nn.Module):
    """`.text`, `.vision`, `.codec`.

    Raises:
        ConfigError: a prompt is longer than the text tower's window.
    """

    def __init__(self, config: ConditionEncodersConfig) -> None:
        super().__init__()
        self.config = config
        self.text = CLIPTextModel(
            CLIPTextConfig(**dataclasses.asdict(config.text), hidden_act="gelu")
        )
        vision = dataclasses.asdict(config.vision)
        self.vision = CLIPVisionModel(CLIPVisionConfig(**vision, hidden_act="gelu"))
        self.codec = build_codec(config.codec)
        self.affine = LatentAffine(config.codec)
        for name in ("prompt_ids", "negative_ids"):
            window = config.text.max_position_embeddings - 2
            if len(getattr(config, name)) > window:
                raise ConfigError(
                    f"encoders.{name} has {len(getattr(config, name))} tokens, the window {window}",
                    remedy="shorten the prompt",
                )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.text.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one frame."""
        side = self.config.image_size // self.codec.stride
        return (self.codec.latent_channels, side, side)

    def prompt_states(self) -> tuple[Tensor, Tensor]:
        """Text states [1, L, D] of the prompt and of the negative prompt."""
        rows = [self.token_row(self.config.prompt_ids), self.token_row(self.config.negative_ids)]
        states = self.text_states(torch.tensor(rows))
        return states[:1], states[1:]

    def token_row(self, ids: Sequence[int]) -> list[int]:
        """Token ids with begin and end, filled up to the window."""
        text = self.config.text
        row = [text.bos_token_id, *ids, text.eos_token_id]
        return row + [text.pad_token_id] * (text.max_position_embeddings - len(row))

    def text_states(self, tokens_BL: Tensor) -> Tensor:
        """[B, L, D] of token ids."""
        found = self.text(input_ids=tokens_BL.to(self.device), output_hidden_states=True)
        return self.text.final_layer_norm(found.hidden_states[-2])

    def image_states(self, pixels_B3PP: Tensor) -> Tensor:
        """[B, N, V] of normalised vision pixels."""
        pixels = pixels_B3PP.to(self.vision.device, self.vision.dtype)
        return self.vision(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]

    def latents(self, pixels_B3SS: Tensor, noise_Bchw: Tensor | None) -> Tensor:
        """Scaled latents [B, c, h, w], float32, of pixels in [-1, 1].

        One draw of the posterior; its mean when no noise is given.
        """
        raw = self.codec.encode(self.affine.scale_image(pixels_B3SS).to(self.device), noise_Bchw)
        return self.affine.latents(raw.float())

    def images(self, latents_Bchw: Tensor) -> Tensor:
        """Images [B, 3, S, S] in [0, 1] of scaled latents."""
        return self.affine.images(self.codec.decode(self.affine.raw(latents_Bchw)).float())


def to_levels(images: Tensor) -> Tensor:
    """Values in [0, 1] -> uint8, truncated as the published pipeline does."""
    return (images * 255.0).to(torch.uint8)
