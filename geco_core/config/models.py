"""Configurations of the Zero123++ multi-view model and the InstantMesh / InstantNeRF reconstructor.

Micro and full presets are the same dataclasses with other numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from geco_core.config.placement import PlacementConfig


@dataclass(frozen=True)
class UNetConfig:
    """Fields of diffusers' `UNet2DConditionModel`.

    `attention_heads` is the NUMBER of heads per level (diffusers names it `attention_head_dim`).
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_levels: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    attention_heads: tuple[int, ...] = (5, 10, 20, 20)
    cross_attention_dim: int = 1024
    norm_num_groups: int = 32
    use_linear_projection: bool = True
    sample_size: int = 96


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise schedule (diffusers scheduler fields); every network predicts v."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["linear", "scaled_linear"] = "linear"
    prediction_type: Literal["v_prediction"] = "v_prediction"
    timestep_spacing: Literal["trailing", "linspace", "leading"] = "trailing"
    steps_offset: int = 1
    rescale_betas_zero_snr: bool = False


@dataclass(frozen=True)
class CodecConfig:
    """The latent codec.

    `autoencoder_kl` is the published VAE; `patch` is a closed-form strided linear codec.

    `latent_shift`/`latent_scale` are Zero123++'s affine constants: x -> (x - shift) * scale on
    target latents.
    """

    kind: Literal["autoencoder_kl", "patch"] = "autoencoder_kl"
    latent_channels: int = 4
    patch_size: int = 8
    scaling_factor: float = 0.18215
    latent_shift: float = 0.22
    latent_scale: float = 0.75
    image_scale: float = 0.625
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    condition_mean: float = 0.5
    condition_std: float = 0.8


@dataclass(frozen=True)
class VisionTowerConfig:
    """Fields of transformers' `CLIPVisionModelWithProjection`."""

    hidden_size: int = 1280
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    projection_dim: int = 1024


@dataclass(frozen=True)
class TextTowerConfig:
    """Fields of transformers' `CLIPTextModel`."""

    vocab_size: int = 49408
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 23
    num_attention_heads: int = 16
    max_position_embeddings: int = 77
    bos_token_id: int = 49406
    eos_token_id: int = 49407
    pad_token_id: int = 0


@dataclass(frozen=True)
class ViewRigConfig:
    """The fixed rig of views (Zero123++ v1.2: six).

    Azimuths are relative to the condition view, elevations absolute.
    """

    azimuths_deg: tuple[float, ...] = (30.0, 90.0, 150.0, 210.0, 270.0, 330.0)
    elevations_deg: tuple[float, ...] = (20.0, -10.0, 20.0, -10.0, 20.0, -10.0)
    fov_deg: float = 30.0
    radius: float = 4.0
    view_size: int = 320
    rows: int = 3
    columns: int = 2


@dataclass(frozen=True)
class MultiViewConfig:
    """Zero123++: reference-attention UNet, codec, towers, schedule, rig.

    `condition_channels` adds the condition latents (repeated into every view cell), per-view
    coordinates (2) and a one-hot view index (V) to the UNet input; off in the published model.
    `noised_channels` lets these channels carry what the reference pass reads: latents noised to
    its timestep for teacher and score networks, clean ones for the one-step generator.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    vision: VisionTowerConfig = field(default_factory=VisionTowerConfig)
    text: TextTowerConfig = field(default_factory=TextTowerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    rig: ViewRigConfig = field(default_factory=ViewRigConfig)
    condition_size: int = 512
    condition_channels: bool = False
    noised_channels: bool = False
    condition_latent_gain: float = 1.0
    background: Literal["white", "gray"] = "white"
    foreground_ratio: float = 0.85

    def __post_init__(self) -> None:
        if not 0.0 < self.foreground_ratio <= 1.0:
            raise ValueError(
                f"foreground_ratio must be within 0 and 1, got {self.foreground_ratio}"
            )


@dataclass(frozen=True)
class SamplerConfig:
    """How the multi-view model is sampled.

    `one_step` ignores `steps` and reads a clean reference at the time embedding `reference_t`.
    """

    kind: Literal["ddim", "euler_ancestral", "one_step"] = "ddim"
    steps: int = 75
    guidance_scale: float = 4.0
    reference_t: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}")


@dataclass(frozen=True)
class EncoderConfig:
    """Camera-modulated DINO ViT."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    image_size: int = 224
    patch_size: int = 16
    layer_norm_eps: float = 1e-12


@dataclass(frozen=True)
class ReconstructorConfig:
    """InstantMesh (`kind="mesh"`) and InstantNeRF (`kind="nerf"`), published field names.

    `sdf_sphere_radius` adds |p| - radius to the SDF head and `sdf_scale` multiplies the head's raw
    output: both are neutral (0 = no bias, 1.0) in the published model and give micro training a
    non-empty start.
    """

    kind: Literal["mesh", "nerf"] = "mesh"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    input_size: int = 320
    transformer_dim: int = 1024
    transformer_layers: int = 16
    transformer_heads: int = 16
    triplane_low_res: int = 32
    triplane_high_res: int = 64
    triplane_dim: int = 80
    decoder_hidden_dim: int = 64
    samples_per_ray: int = 128
    grid_res: int = 128
    grid_scale: float = 2.1
    sdf_sphere_radius: float = 0.0
    sdf_scale: float = 1.0
    nerf_mesh_res: int = 256
    nerf_mesh_threshold: float = 10.0


@dataclass(frozen=True)
class ExtractionConfig:
    """Surface extraction: `exact` evaluates the whole grid, else coarse-to-fine with growth.

    `grid_res` may differ from the reconstructor's own, which is that of training.
    """

    grid_res: int = 128
    exact: bool = False
    coarse_factor: int = 4
    dilate: int = 1
    chunk_points: int = 65536

    def __post_init__(self) -> None:
        for name in ("grid_res", "coarse_factor", "chunk_points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class WeightsConfig:
    """Where weights come from; see `geco_core.checkpoints.hub` for the forms of a reference.

    `white_unet` replaces the U-Net of a published pipeline; a sha256 pins a file (of a pipeline:
    its U-Net). `licence` is that of our own weights: published ones bring theirs.
    """

    multiview: str = ""
    white_unet: str = ""
    multiview_sha256: str = ""
    reconstructor: str = ""
    reconstructor_sha256: str = ""
    licence: str = "Apache-2.0"


@dataclass(frozen=True)
class InstantMeshConfig(PlacementConfig):
    """The teacher chain: Zero123++ views -> InstantMesh -> FlexiCubes -> coloured GLB.

    Attributes:
        reference_cache: conditions whose reference pass the one-step sampler keeps; 0 keeps none
            beyond a batch.
    """

    system: str = "instantmesh"
    multiview: MultiViewConfig = field(default_factory=MultiViewConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    reconstructor: ReconstructorConfig = field(default_factory=ReconstructorConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    reference_cache: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference_cache < 0:
            raise ValueError(f"reference_cache must not be negative, got {self.reference_cache}")
