"""Configuration of the reconstruction half of CRM: convolutional U-Net, point heads, extraction.

The defaults are the published model (arXiv 2403.05034); `micro_crm_reconstructor` gives the same
classes with small numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from geco_core.config.models import ExtractionConfig, ScheduleConfig


def _input_schedule() -> ScheduleConfig:
    # Stable Diffusion 2.1's plain schedule, which CRM fetched at run time.
    return ScheduleConfig(beta_schedule="scaled_linear")


@dataclass(frozen=True)
class CrmUNetConfig:
    """Fields of diffusers' `UNet2DModel`, with one boolean per level for attention.

    The up path mirrors the down path. `plane_size` is the side P of a plane: images, learned plane
    and output are P rows and 3 P columns.
    """

    image_channels: int = 12
    learned_channels: int = 20
    out_channels: int = 32
    plane_size: int = 256
    block_out_channels: tuple[int, ...] = (64, 128, 128, 256, 256, 512, 512)
    attention_levels: tuple[bool, ...] = (False, False, False, True, True, True, False)
    layers_per_block: int = 2
    attention_head_dim: int = 8
    mid_attention: bool = True
    norm_num_groups: int = 32

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        if len(self.attention_levels) != levels:
            raise ValueError(
                f"attention_levels has {len(self.attention_levels)} entries, "
                f"block_out_channels has {levels}"
            )
        if self.plane_size % 2 ** (levels - 1):
            raise ValueError(f"plane_size {self.plane_size} does not halve {levels - 1} times")
        for channels in self.block_out_channels:
            if channels % self.norm_num_groups:
                raise ValueError(f"{channels} channels in {self.norm_num_groups} groups")


@dataclass(frozen=True)
class CrmReconstructorConfig:
    """Six views and their coordinate maps to a mesh.

    Attributes:
        unet: images and learned channels to triplanes.
        hidden_dim: width of the three point heads.
        timestep: how far the images are noised, and what the U-Net is told.
        schedule: gives the two factors of the noising.
        noise_mean: of the noise, in image values: images lie in [0, 1].
        noise_std: see `noise_mean`.
        sphere_radius: of the sphere that is added to the field; 0 adds none.
        field_scale: multiplies the head's raw field; 1 in the published model.
        grid_res: cubes per axis of training's grid.
        grid_scale: edge of the grid; planes cover [-1, 1].
        mesh_scale: half edge of the box that objects fill; scales how far nodes may move.
    """

    unet: CrmUNetConfig = field(default_factory=CrmUNetConfig)
    hidden_dim: int = 512
    timestep: int = 20
    schedule: ScheduleConfig = field(default_factory=_input_schedule)
    noise_mean: float = 0.5
    noise_std: float = 0.5
    sphere_radius: float = 0.5
    field_scale: float = 1.0
    grid_res: int = 80
    grid_scale: float = 2.0
    mesh_scale: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.timestep < self.schedule.num_train_timesteps:
            raise ValueError(f"timestep {self.timestep} is not one of the schedule")

    def extraction(self) -> ExtractionConfig:
        """How a mesh is extracted at training's resolution."""
        return ExtractionConfig(grid_res=self.grid_res)


def micro_crm_reconstructor() -> CrmReconstructorConfig:
    """The same classes, small enough to train on a CPU in minutes."""
    return CrmReconstructorConfig(
        unet=CrmUNetConfig(
            learned_channels=4,
            out_channels=24,
            plane_size=32,
            block_out_channels=(32, 48, 64),
            attention_levels=(False, False, True),
            layers_per_block=1,
            norm_num_groups=8,
        ),
        hidden_dim=64,
        field_scale=0.2,
        grid_res=40,
    )
