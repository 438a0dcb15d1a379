"""Low-rank adapters (LoRA, arXiv 2106.09685) on the attention projections of a U-Net.

A score network that follows a generator needs few degrees of freedom around the teacher it starts
from: adapters save a full copy of the weights and of the optimiser's state. Names and behaviour of
everything else stay: an adapted layer adds `down` and `up` to the state dict, starts at zero, and
can be merged into its base.

Legend: I inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


class LowRankLinear(nn.Module):
    """`base(x) + scale * up(down(x))`, with the base frozen.

    Args:
        base: the layer to adapt.
        rank: R.
        scale: of the addition; 0 switches the adapter off.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float = 1.0) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be positive, got {rank}")
        self.base = base.requires_grad_(False)
        self.scale = scale
        weight = base.weight
        self.down = nn.Parameter(weight.new_empty(rank, base.in_features))  # [R, I]
        self.up = nn.Parameter(weight.new_zeros(base.out_features, rank))  # [O, R]
        nn.init.normal_(self.down, std=1.0 / rank)

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        out = self.base(x)
        if self.scale == 0.0:
            return out
        return out + self.scale * ((x @ self.down.T) @ self.up.T)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer that computes the same."""
        layer = nn.Linear(
            self.base.in_features, self.base.out_features, bias=self.base.bias is not None
        ).to(self.base.weight)
        layer.weight.copy_(self.base.weight + self.scale * (self.up @ self.down))
        if layer.bias is not None:
            layer.bias.copy_(self.base.bias)
        return layer


def add_low_rank(unet: nn.Module, rank: int, *, scale: float = 1.0) -> list[nn.Parameter]:
    """Adapt every attention projection of a U-Net in place; all other weights are frozen.

    Returns:
        The parameters to train.

    Raises:
        ValueError: there is no layer to adapt.
    """
    unet.requires_grad_(False)
    found = list(_targets(unet))
    if not found:
        raise ValueError(f"no linear layer named {', '.join(TARGETS)} to adapt")
    trained: list[nn.Parameter] = []
    for parent, name, layer in found:
        adapter = LowRankLinear(layer, rank, scale)
        setattr(parent, name, adapter)
        trained += [adapter.down, adapter.up]
    return trained


def merge_low_rank(unet: nn.Module) -> None:
    """Replace every adapted layer by a plain one that computes the same, in place."""
    for module in list(unet.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LowRankLinear):
                setattr(module, name, child.merged())


def _targets(unet: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for path, module in list(unet.named_modules()):
        if isinstance(module, nn.Linear) and path.endswith(TARGETS):
            parent, _, name = path.rpartition(".")
            yield unet.get_submodule(parent), name, module
