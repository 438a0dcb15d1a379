"""Image encoder: a DINO vision transformer whose layers are modulated by the camera of each view.

Same function as InstantMesh's encoder (arXiv 2404.07191, section 3.1; ViT of arXiv 2104.14294,
modulation of arXiv 2212.09748 without gates), and the same state-dict names. What differs: written
without a ViT library, the per-view modulation of all layers is one matrix product per layer on [B *
V, D], and no image processor is needed.

Legend: B batch, V views, N = B * V, L = 1 + patches tokens per view, D hidden width, H/W image
side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geco_core.attention import multi_head_attention
from geco_core.config.models import EncoderConfig

CAMERA_NUMBERS = 16
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
# The published weights were trained with a position table resized by (n + 0.1) / m, not n / m.
POSITION_OFFSET = 0.1


def resize_positions(table: Tensor, rows: int, columns: int) -> Tensor:
    """The position table for a `rows` x `columns` patch grid.

    Args:
        table: [1, 1 + m * m, D], class token first.
        rows, columns: patches of the image at hand.

    Returns:
        [1, 1 + rows * columns, D]: the table itself where it fits, else its grid part resized
        bicubically.
    """
    side = round((table.shape[1] - 1) ** 0.5)
    if rows == columns == side:
        return table
    grid = table[:, 1:].transpose(1, 2).unflatten(-1, (side, side))  # [1, D, m, m]
    factor = ((rows + POSITION_OFFSET) / side, (columns + POSITION_OFFSET) / side)
    resized = F.interpolate(grid, scale_factor=factor, mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2)], 1)


def normalise_images(images: Tensor) -> Tensor:
    """[..., 3, H, W] in [0, 1] -> ImageNet-normalised."""
    mean = images.new_tensor(IMAGE_MEAN).view(3, 1, 1)
    std = images.new_tensor(IMAGE_STD).view(3, 1, 1)
    return (images - mean) / std


class Embeddings(nn.Module):
    """Patch projection, class token and position table."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        side = config.image_size // patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + side * side, width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, width, patch, patch)})
        for table in (self.cls_token, self.position_embeddings):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [N, 3, H, W] -> tokens [N, L, D]."""
        grid = self.patch_embeddings["projection"](pixels)  # [N, D, rows, columns]
        patches = grid.flatten(2).transpose(1, 2)
        cls = self.cls_token.to(patches.dtype).expand(len(patches), -1, -1)
        positions = resize_positions(self.position_embeddings, grid.shape[2], grid.shape[3])
        return torch.cat([cls, patches], 1) + positions


class ViTAttention(nn.Module):
    """Self-attention under the published ViT's names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        names = ("query", "key", "value")
        self.attention = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, L, D] -> [N, L, D]."""
        query, key, value = (self.attention[name](tokens) for name in ("query", "key", "value"))
        return self.output["dense"](multi_head_attention(query, key, value, self.heads))


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer with camera shift and scale on both branches."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.attention = ViTAttention(width, config.num_attention_heads)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = nn.ModuleDict({"dense": nn.Linear(inner, width)})
        self.layernorm_before = nn.LayerNorm(width, eps)
        self.layernorm_after = nn.LayerNorm(width, eps)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 4 * width))

    def _mlp(self, tokens: Tensor) -> Tensor:
        return self.output["dense"](F.gelu(self.intermediate["dense"](tokens)))

    def forward(self, tokens: Tensor, camera: Tensor) -> Tensor:
        """Tokens [N, L, D] under camera embeddings [N, D] -> [N, L, D]."""
        shift1, scale1, shift2, scale2 = self.adaLN_modulation(camera)[:, None].chunk(4, -1)
        tokens = tokens + self.attention(
            torch.addcmul(shift1, self.layernorm_before(tokens), 1 + scale1)
        )
        return tokens + self._mlp(torch.addcmul(shift2, self.layernorm_after(tokens), 1 + scale2))


class VisionTransformer(nn.Module):
    """Embeddings, layers and the final norm; names follow the published ViT."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.encoder = nn.ModuleDict({"layer": layers})
        self.layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    @property
    def layers(self) -> list[EncoderLayer]:
        """The transformer layers, first to last."""
        return [layer for layer in self.encoder.modules() if isinstance(layer, EncoderLayer)]

    def forward(self, pixels: Tensor, camera: Tensor) -> Tensor:
        """Normalised pixels [N, 3, H, W] and camera embeddings [N, D] -> features [N, L, D]."""
        tokens = self.embeddings(pixels)
        for layer in self.layers:
            tokens = layer(tokens, camera)
        return self.layernorm(tokens)


class CameraEncoder(nn.Module):
    """`encoder.*` of the published checkpoints: camera embedder plus modulated ViT."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.model = VisionTransformer(config)
        self.camera_embedder = nn.Sequential(
            nn.Linear(CAMERA_NUMBERS, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """ViT initialisation; the modulation starts at zero, so an untrained camera is ignored."""
        for module in self.model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer in self.model.layers:
            for parameter in layer.adaLN_modulation.parameters():
                nn.init.zeros_(parameter)

    def embed_cameras(self, cameras: Tensor) -> Tensor:
        """Camera vectors [..., 16] -> embeddings [..., D]."""
        return self.camera_embedder(cameras)

    def forward(self, images: Tensor, cameras: Tensor) -> Tensor:
        """Features of every view.

        Args:
            images: [B, V, 3, H, W] in [0, 1]; H and W multiples of the patch size.
            cameras: [B, V, 16].

        Returns:
            [B * V, L, D]: class token first.
        """
        camera = self.embed_cameras(cameras).flatten(0, 1)
        return self.model(normalise_images(images.flatten(0, 1)), camera)
