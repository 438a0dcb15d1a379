"""Configurations of the multi-view noise-prediction networks and of CRM's two diffusion stages.

One network serves MVDream (arXiv 2308.16512), ImageDream (arXiv 2312.02201) and both stages of CRM
(arXiv 2403.05034): they differ in the numbers here. The defaults are those of the published files.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from geco_core.config.models import CodecConfig, TextTowerConfig, UNetConfig, VisionTowerConfig


@dataclass(frozen=True)
class MultiViewUNetConfig(UNetConfig):
    """A U-Net whose self-attention spans the frames of an object.

    Attributes:
        camera_width: numbers per camera vector, added to the time embedding through two layers.
        image_tokens: cross-attention states that come from an image; 0 means text alone.
        image_token_weight: of the image half of cross-attention.
        transformer_layers: blocks per attention level.
    """

    camera_width: int = 16
    image_tokens: int = 16
    image_token_weight: float = 1.0
    transformer_layers: int = 1


@dataclass(frozen=True)
class ResamplerConfig:
    """The perceiver that turns vision states into image tokens.

    Number and width of the tokens are the U-Net's.
    """

    input_width: int = 1280
    layers: int = 4
    heads: int = 12
    head_width: int = 64
    feed_forward: int = 4


@dataclass(frozen=True)
class NoiseTablesConfig:
    """The schedule of a network, and what it predicts.

    Attributes:
        beta_schedule: "scaled_linear" betas are linear in their square root, as published.
        zero_terminal_snr: rescale so that the last state is pure noise (CRM).
        prediction: the published networks predict the noise, which says nothing of the sample where
            it is pure noise; the velocity (arXiv 2202.00512) does.
        tables: precision in which abar is held. "float16" repeats the published GPU pipeline, which
            casts the tables with the weights.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: Literal["scaled_linear", "linear"] = "scaled_linear"
    zero_terminal_snr: bool = True
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    tables: Literal["float32", "float16"] = "float32"


@dataclass(frozen=True)
class DdimConfig:
    """How a network is sampled.

    Attributes:
        steps: number of steps, see `spacing`.
        guidance_scale: 1 runs the conditional half alone.
        spacing: "leading" makes exactly `steps` steps; "stride" repeats the published list of every
            (T // steps)-th timestep, which is longer when `steps` does not divide T; "trailing"
            starts at the last timestep, for networks that predict the velocity.
        last_alpha: abar that the last step leads to: "first" is abar_0 as published, "one" is 1.
    """

    steps: int = 50
    guidance_scale: float = 5.0
    spacing: Literal["leading", "stride", "trailing"] = "leading"
    last_alpha: Literal["first", "one"] = "first"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}")


@dataclass(frozen=True)
class FrameRigConfig:
    """The frames of one object.

    Attributes:
        kind: "ortho" are CRM's six axis-parallel views, "orbit" a ring around the object.
        views: of "ortho": view of every frame (0 front, 1 left, 2 down, 3 back, 4 right, 5 top).
        orbit_views: of "orbit": cameras, evenly spaced from the front.
        elevation_deg: of "orbit": above the ground plane.
        azimuth_deg: of "orbit": of the first camera; 0 sees the front.
        reference: one more frame, the last, holds the condition image's clean latent; its camera
            vector is zero.
    """

    kind: Literal["ortho", "orbit"] = "ortho"
    views: tuple[int, ...] = (1, 2, 3, 4, 5, 0)
    orbit_views: int = 4
    elevation_deg: float = 0.0
    azimuth_deg: float = 0.0
    reference: bool = False

    def __post_init__(self) -> None:
        wrong = [view for view in self.views if not 0 <= view <= 5]
        if wrong:
            raise ValueError(f"views must be within 0 and 5, got {wrong}")

    @property
    def generated(self) -> int:
        """Frames that show a generated view."""
        return len(self.views) if self.kind == "ortho" else self.orbit_views

    @property
    def frames(self) -> int:
        """Frames the network sees per object, the reference included."""
        return self.generated + int(self.reference)


@dataclass(frozen=True)
class ImageDreamConfig:
    """One network with its frames and schedule.

    Attributes:
        pixel_latents: further input channels hold the latents of an image per frame.
        reference_channels: further input channels of every frame hold the latent of the condition
            image, mirrored for the view from behind. The published networks read it in the
            reference frame alone; a small network learns far faster from pixels in their place.
        coordinate_channels: two more channels hold the column and the row in [-1, 1]. The published
            networks have none.
    """

    unet: MultiViewUNetConfig = field(default_factory=MultiViewUNetConfig)
    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    rig: FrameRigConfig = field(default_factory=FrameRigConfig)
    schedule: NoiseTablesConfig = field(default_factory=NoiseTablesConfig)
    pixel_latents: bool = False
    reference_channels: bool = False
    coordinate_channels: bool = False

    @property
    def further_channels(self) -> int:
        """Input channels that hold latents of pictures."""
        return self.unet.out_channels * (int(self.pixel_latents) + int(self.reference_channels))

    @property
    def input_channels(self) -> int:
        """What `unet.in_channels` must be."""
        return self.unet.out_channels + self.further_channels + 2 * int(self.coordinate_channels)


_PLAIN = NoiseTablesConfig(zero_terminal_snr=False)
_UNET = MultiViewUNetConfig()
MVDREAM = ImageDreamConfig(
    unet=replace(_UNET, image_tokens=0), rig=FrameRigConfig(kind="orbit"), schedule=_PLAIN
)
IMAGEDREAM_LOCAL = ImageDreamConfig(
    rig=FrameRigConfig(kind="orbit", elevation_deg=5.0), schedule=_PLAIN
)
IMAGEDREAM_PIXEL = replace(
    IMAGEDREAM_LOCAL, rig=FrameRigConfig(kind="orbit", elevation_deg=5.0, reference=True)
)
CRM_VIEWS = ImageDreamConfig(rig=FrameRigConfig(reference=True))
CRM_CCM = ImageDreamConfig(unet=replace(_UNET, in_channels=8), pixel_latents=True)


def _codec() -> CodecConfig:
    """Stable Diffusion's autoencoder without Zero123++'s affine constants."""
    return CodecConfig(latent_shift=0.0, latent_scale=1.0, image_scale=1.0, condition_std=0.5)


@dataclass(frozen=True)
class ConditionEncodersConfig:
    """OpenCLIP's two towers and the codec, which both stages share.

    The layers are all those of the files; the states used are the ones before the last. Prompts are
    token ids without begin, end and padding, so that no vocabulary is needed.

    Attributes:
        image_size: pixels per side of a frame.
        prompt_ids: "3D assets".
        negative_ids: "uniform low no texture ugly, boring, bad anatomy, blurry, pixelated,
            obscure, unnatural colors, poor lighting, dull, and unclear."
    """

    codec: CodecConfig = field(default_factory=_codec)
    text: TextTowerConfig = field(default_factory=lambda: TextTowerConfig(num_hidden_layers=24))
    vision: VisionTowerConfig = field(default_factory=VisionTowerConfig)
    image_size: int = 256
    prompt_ids: tuple[int, ...] = (274, 323, 13170)
    negative_ids: tuple[int, ...] = (
        11075, 1042, 871, 16505, 8159, 267, 12519, 267, 2103, 15376, 267, 21977, 267, 14384, 943,
        267, 33337, 267, 569, 3288, 5389, 267, 3665, 5799, 267, 19433, 267, 537, 32955, 269,
    )  # fmt: skip


@dataclass(frozen=True)
class CrmDiffusionConfig:
    """CRM's diffusion half: an image in, six views and six coordinate maps out.

    Attributes:
        encoders: shared by both stages.
        views: stage 1.
        ccm: stage 2.
        views_sampler, ccm_sampler: how they are sampled.
        foreground_ratio: the foreground is first cropped and framed to fill this share of a square
            picture, in (0, 1]; 0 leaves it where it is, as published.
        content_ratio: the picture content is resized to this share of its frame, in (0, 1].
        background: grey level behind the object, 0..255; the models expect 127.
    """

    encoders: ConditionEncodersConfig = field(default_factory=ConditionEncodersConfig)
    views: ImageDreamConfig = CRM_VIEWS
    ccm: ImageDreamConfig = CRM_CCM
    views_sampler: DdimConfig = field(default_factory=DdimConfig)
    ccm_sampler: DdimConfig = field(default_factory=DdimConfig)
    foreground_ratio: float = 0.0
    content_ratio: float = 1.0
    background: int = 127

    def __post_init__(self) -> None:
        if not 0.0 <= self.foreground_ratio <= 1.0:
            raise ValueError(
                f"foreground_ratio must be within 0 and 1, got {self.foreground_ratio}"
            )
        if not 0.0 < self.content_ratio <= 1.0:
            raise ValueError(f"content_ratio must be within 0 and 1, got {self.content_ratio}")
        if not 0 <= self.background <= 255:
            raise ValueError(f"background must be within 0 and 255, got {self.background}")
