"""The micro CRM reconstructor's second training task: its renders against true renders.

Continues what `crm_reconstructor` starts: points teach shapes in minutes; renders teach what points
can not, where FlexiCubes puts its vertices, and judge what is delivered, a mesh. Inputs may be
true or generated, see `CrmInputs`; targets are always true.

Legend: B batch, K renders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from geco_core.evaluate.image import psnr
from geco_core.evaluate.lpips import load_perceptual
from geco_core.multiview.crm import CrmFrames
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.render.registry import get_rasterizer
from geco_core.training.crm_batches import CrmInputs, draw_points, generated_inputs
from geco_core.training.crm_examples import CrmExamples
from geco_core.training.crm_reconstructor import CrmReconstructorTask, CrmTaskConfig
from geco_core.training.crm_render import CrmRenderConfig, crm_render_loss, render_planes
from geco_core.training.rendered import (
    RenderCameras,
    RenderedBatch,
    ShapeRenders,
    draw_views,
)
from geco_core.training.sheets import save_sheet


def micro_render() -> CrmRenderConfig:
    """The loss at 64 pixels, where silhouettes alone do not hold thin parts.

    Cubes are larger than a pixel: smaller triangles get no gradient from silhouettes. The true
    renders are averages of 2 x 2 samples, so ours are too.
    """
    return CrmRenderConfig(
        render_size=64, views_per_step=4, grid_res=40, supersample=2, point_weight=0.1
    )


@dataclass(frozen=True)
class CrmRenderTaskConfig:
    """Batches, the loss, and what is evaluated.

    Attributes:
        render: the loss.
        cameras: of the true renders.
        batch_size: B.
        sdf_points, color_points: of every object where the loss wants points.
        sample_share: of every batch reads generated inputs where there are any.
        seed: of the order of rows.
        evaluate_objects: held-out objects.
        evaluate_views: K, the first of each object's cameras.
        evaluate_grid_res: cubes per axis of the meshes that are evaluated.
        sheet_objects: of the picture `renders-<step>.png`; 0 draws none.
    """

    render: CrmRenderConfig = field(default_factory=micro_render)
    cameras: RenderCameras = field(default_factory=RenderCameras)
    batch_size: int = 4
    sdf_points: int = 512
    color_points: int = 256
    sample_share: float = 0.5
    seed: int = 0
    evaluate_objects: int = 48
    evaluate_views: int = 6
    evaluate_grid_res: int = 64
    sheet_objects: int = 6


class CrmRenderTask:
    """Loss and evaluation of a `CrmReconstructor` on renders of procedural objects.

    Args:
        model: under training, best after `CrmReconstructorTask`.
        train: true inputs and points.
        heldout: the same of other objects.
        config: of batches, loss and evaluation.
        samples: generated inputs of the first training rows, see `CrmInputs`.
        heldout_samples: those of the first held-out rows, to evaluate on them too.

    Raises:
        ConfigError: no weights of LPIPS where the configuration says.
        ValueError: see `CrmInputs`.
    """

    def __init__(
        self,
        model: CrmReconstructor,
        train: CrmExamples,
        heldout: CrmExamples,
        config: CrmRenderTaskConfig,
        samples: CrmFrames | None = None,
        heldout_samples: CrmFrames | None = None,
    ) -> None:
        self.model = model
        self._train, self._heldout, self._config = train, heldout, config
        self._heldout_samples = heldout_samples
        self._inputs = CrmInputs(
            train, config.batch_size, config.seed, samples, config.sample_share
        )
        size = config.render.render_size
        self._renders = ShapeRenders(train.spec.split, size, config.cameras)
        self._heldout_renders = ShapeRenders(heldout.spec.split, size, config.cameras)
        self._perceptual = load_perceptual(config.render.perceptual_folder)
        self._rasterizer = get_rasterizer("auto", "cpu")
        self._points = CrmReconstructorTask(
            model, train, heldout, CrmTaskConfig(evaluate_objects=config.evaluate_objects)
        )

    def batch(self, step: int, generator: torch.Generator) -> RenderedBatch:
        """What `step` is supervised by; `generator` draws views and points."""
        cfg = self._config
        rows, inputs = self._inputs.batch(step)
        views_BK = draw_views(len(rows), cfg.render.views_per_step, self._renders.views, generator)
        points = None
        if cfg.render.point_weight > 0:
            points = draw_points(self._train, rows, cfg.sdf_points, cfg.color_points, generator)
        return RenderedBatch(inputs, self._renders.renders(rows, views_BK), points)

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """See `crm_render_loss`."""
        return crm_render_loss(
            self.model,
            self.batch(step, generator),
            self._config.render,
            generator,
            self._perceptual,
            self._rasterizer,
        )

    def evaluate(self, step: int, folder: Path) -> Mapping[str, float]:
        """Numbers on held-out objects; also writes the sheet of true renders and ours.

        Returns:
            From true inputs: `render_psnr` (dB, over the views of an object, mean over objects),
            `empty`, the share of objects without a surface, which render as background, and `iou`
            and `color_psnr` of `CrmReconstructorTask`. From generated ones, where there are any:
            `generated_psnr` and `generated_empty`.
        """
        count = min(self._config.evaluate_objects, len(self._heldout))
        inputs = self._heldout.inputs(torch.arange(count))
        quality, empty = self._score(inputs, folder / f"renders-{step:06d}.png")
        found = {"render_psnr": quality, "empty": empty, **self._points.evaluate(step, folder)}
        if self._heldout_samples is not None:
            made = generated_inputs(self._heldout_samples, slice(count))
            quality, empty = self._score(made, folder / f"generated-{step:06d}.png")
            found |= {"generated_psnr": quality, "generated_empty": empty}
        return found

    @torch.no_grad()
    def _score(self, inputs: Tensor, sheet: Path) -> tuple[float, float]:
        """PSNR of the renders of the first held-out objects, and the share without a surface."""
        cfg = self._config
        views_1K = torch.arange(min(cfg.evaluate_views, self._heldout_renders.views))[None]
        scores, empty, pictures = [], 0, []
        for row, images in enumerate(inputs.split(1)):
            noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(row))
            planes = self.model.forward_planes(images, noise)
            shape = self.model.geometry(
                planes, False, grid_res=cfg.evaluate_grid_res, weights_on="surface"
            )
            true = self._heldout_renders.renders(torch.tensor([row]), views_1K)
            made = render_planes(self.model, planes, shape, true, 0, cfg.render, self._rasterizer)
            scores.append(psnr(made.rgb[None], true.images))
            empty += int(shape.empty[0])
            if row < cfg.sheet_objects:
                pictures += [true.images[0], made.rgb]
        if pictures:
            save_sheet(torch.stack(pictures), sheet)
        return float(torch.cat(scores).mean()), empty / len(inputs)
