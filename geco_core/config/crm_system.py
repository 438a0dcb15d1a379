"""Configuration of the system `crm`: one image to a mesh through six views and coordinate maps."""

from __future__ import annotations

from dataclasses import dataclass, field

from geco_core.config.crm import CrmDiffusionConfig, FrameRigConfig
from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.config.models import ExtractionConfig
from geco_core.config.placement import PlacementConfig


@dataclass(frozen=True)
class CrmWeightsConfig:
    """Where weights come from; see `geco_core.checkpoints.hub` for the forms of a reference.

    Attributes:
        multiview: folder or repository with the files of both diffusion stages, or one file of our
            own that holds both.
        multiview_sha256: pins the file of stage 1, or our own.
        ccm_sha256: pins the published file of stage 2.
        reconstructor: folder, repository or file of the reconstruction half.
        reconstructor_sha256: pins it.
        licence: of our own weights; published ones bring theirs.
    """

    multiview: str = ""
    multiview_sha256: str = ""
    ccm_sha256: str = ""
    reconstructor: str = ""
    reconstructor_sha256: str = ""
    licence: str = "Apache-2.0"


@dataclass(frozen=True)
class CrmConfig(PlacementConfig):
    """CRM (arXiv 2403.05034): image -> six views -> coordinate maps -> triplanes -> mesh.

    The reconstructor reads the frames in the published order: other `views` of a rig are refused.
    """

    system: str = "crm"
    diffusion: CrmDiffusionConfig = field(default_factory=CrmDiffusionConfig)
    reconstructor: CrmReconstructorConfig = field(default_factory=CrmReconstructorConfig)
    extraction: ExtractionConfig = field(default_factory=lambda: ExtractionConfig(grid_res=80))
    weights: CrmWeightsConfig = field(default_factory=CrmWeightsConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = FrameRigConfig().views
        for name in ("views", "ccm"):
            found = getattr(self.diffusion, name).rig.views
            if found != wanted:
                raise ValueError(
                    f"diffusion.{name}.rig.views is {found}, the reconstructor reads {wanted}"
                )
