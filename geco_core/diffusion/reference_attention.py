"""Reference attention: self-attention that also looks at a second pass's tokens.

Follows Zero123++ (arXiv 2310.15110, section 2.2): a *writing* pass stores the input of every
self-attention layer (attn1, after its norm); a *reading* pass uses [own tokens, stored tokens] as
keys and values. Cross-attention (attn2) is left alone. What differs from the original: the store is
an explicit object handed to the U-Net call, and writing and reading are two objects rather than a
mode that is switched. Nothing is consumed by reading. So one written set may serve many reads (the
one-step student caches it), gradients flow through both passes, and non-reentrant gradient
checkpointing, which runs blocks a second time during backward, finds the same object in the same
role.

Legend: B batch, T own tokens, R reference tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from geco_core.attention import multi_head_attention

# Key under which a writer or reader travels in diffusers' `cross_attention_kwargs`.
ARGUMENT = "reference"


@dataclass(frozen=True)
class ReferenceFeatures:
    """What one writing pass stored.

    Attributes:
        layers: processor name -> hidden states [B, R, D] entering that self-attention layer.
        latents: the latents [B, c, h, w] that the pass read, noised or clean.
    """

    layers: Mapping[str, Tensor]
    latents: Tensor

    def repeat_interleave(self, count: int) -> ReferenceFeatures:
        """Every batch row `count` times in place: (r0, r0, r1, r1, ...)."""
        return self._each(lambda x: x.repeat_interleave(count, dim=0))

    def detach(self) -> ReferenceFeatures:
        """The same features, cut from the graph."""
        return self._each(lambda x: x.detach())

    def _each(self, change: Callable[[Tensor], Tensor]) -> ReferenceFeatures:
        layers = {name: change(x) for name, x in self.layers.items()}
        return ReferenceFeatures(layers, change(self.latents))


@dataclass
class ReferenceWriter:
    """Collects the input of every self-attention layer of one U-Net call."""

    layers: dict[str, Tensor] = field(default_factory=dict)

    def context(self, name: str, hidden_BTD: Tensor) -> Tensor:
        """Store the layer's input and attend to it alone."""
        # A checkpointed block runs again during backward; the first run's tensor is in the graph.
        self.layers.setdefault(name, hidden_BTD)
        return hidden_BTD

    def features(self, latents_Bchw: Tensor) -> ReferenceFeatures:
        """What was stored by a pass over these latents."""
        return ReferenceFeatures(dict(self.layers), latents_Bchw)


@dataclass(frozen=True)
class ReferenceReader:
    """Extends the context of every self-attention layer by stored tokens.

    A stored batch of one serves all rows.
    """

    features: ReferenceFeatures

    def context(self, name: str, hidden_BTD: Tensor) -> Tensor:
        """[own tokens, stored tokens], [B, T + R, D].

        Raises KeyError when the layer was not written.
        """
        stored_BRD = self.features.layers[name].to(hidden_BTD.dtype)
        stored_BRD = stored_BRD.expand(hidden_BTD.shape[0], -1, -1)
        return torch.cat([hidden_BTD, stored_BRD], dim=1)


class ReferenceAttnProcessor:
    """Attention processor of one layer.

    Behaves like diffusers' plain one unless it is given a writer or reader.

    Args:
        name: the layer's processor name, `...attn1.processor` for self-attention.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_self_attention = name.endswith("attn1.processor")

    def __call__(
        self,
        attn: Any,  # the Attention layer, whose parts diffusers types as optional
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,  # noqa: ARG002  (diffusers calls processors with it)
        reference: ReferenceWriter | ReferenceReader | None = None,
    ) -> Tensor:
        """hidden_states [B, T, D] -> [B, T, D].

        Masks are refused: these models never use one.
        """
        if attention_mask is not None:
            raise ValueError(f"{self.name}: attention masks are not supported")
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if self.is_self_attention and reference is not None:
            context = reference.context(self.name, hidden_states)
        query_BTD = attn.to_q(hidden_states)
        key_BKD = attn.to_k(context)
        value_BKD = attn.to_v(context)
        out_BTD = multi_head_attention(query_BTD, key_BKD, value_BKD, attn.heads)
        projection, dropout = attn.to_out
        return dropout(projection(out_BTD))


def install_processors(unet: UNet2DConditionModel) -> None:
    """Give every attention layer of `unet` a processor that knows its own name."""
    processors: dict[str, Any] = {
        name: ReferenceAttnProcessor(name) for name in unet.attn_processors
    }
    unet.set_attn_processor(processors)


def self_attention_names(unet: UNet2DConditionModel) -> list[str]:
    """Processor names of the self-attention layers, the ones a writing pass stores."""
    return [name for name in unet.attn_processors if name.endswith("attn1.processor")]
