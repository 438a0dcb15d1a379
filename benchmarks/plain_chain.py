"""The chain as it is usually written: the yardstick of `benchmarks.full_chain` and `.gpu_geco`.

One item at a time through a pipeline loop of the diffusers kind: tokens of the empty prompt, the
negative condition and the reference pass are computed again for every image; every head of the
reconstructor is evaluated at every grid node and its weight head on every cube (as published);
FlexiCubes finds shared edges by a row-wise `unique`. The networks, their weights and the random
draws are those of our own chain, so both make the same mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from benchmarks.rowwise_flexicubes import rowwise_flexicubes
from geco_core.config.models import SamplerConfig
from geco_core.diffusion import noise as streams
from geco_core.diffusion.noise import ItemNoise
from geco_core.diffusion.schedule import scheduler_arguments
from geco_core.fields.decoders import MeshDecoder
from geco_core.imaging.framing import condition_pixels
from geco_core.multiview.condition import concatenate
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.reconstruct.grid_heads import WEIGHT_SCALE
from geco_core.surface.grid import RegularGrid


@dataclass(frozen=True)
class DenseGrid:
    """Nodes and cubes of a grid as arrays, made once.

    Attributes:
        res: cubes per axis.
        points: float32 [N, 3].
        cubes: int64 [C, 8] node indices.
    """

    res: int
    points: Tensor
    cubes: Tensor

    @classmethod
    def of(cls, res: int, scale: float, device: torch.device) -> DenseGrid:
        """The published grid: `res` cubes per axis over `scale` units."""
        grid = RegularGrid.cubic(res, scale)
        cubes = grid.corners(torch.arange(grid.num_cubes, device=device))
        return cls(res, grid.points(device=device), cubes)


def plain_views(model: Zero123Plus, image: np.ndarray, seed: int, sampler: SamplerConfig) -> Tensor:
    """Views [1, V, 3, view, view] of one framed image uint8 [N, N, 3]; DDIM or one step."""
    device, noise = model.device, ItemNoise([seed])
    vae, clip = (p.to(device) for p in condition_pixels([image], model.config))
    draw = noise.draw(streams.POSTERIOR, model.condition_shape).to(device)
    rows = model.encode_condition(vae, clip, draw)
    guided = sampler.guidance_scale != 1.0
    if guided:
        draw = noise.draw(streams.POSTERIOR_NEGATIVE, model.condition_shape).to(device)
        rows = concatenate(model.negative_condition(1, draw), rows)
    x = noise.draw(streams.INITIAL, model.latent_shape).to(device)
    if sampler.kind == "one_step":
        t = torch.tensor(model.schedule.terminal)
        features = model.reference_pass(rows, sampler.reference_t)
        v = model.main_pass(torch.cat([x, x]) if guided else x, t, rows, features)
        return model.decode(model.schedule.clean_from_velocity(x, _guide(v, sampler), t))
    scheduler = DDIMScheduler(
        **scheduler_arguments(model.config.schedule), clip_sample=False, set_alpha_to_one=False
    )
    scheduler.set_timesteps(sampler.steps)
    for t in scheduler.timesteps:
        draws = [noise.draw(streams.REFERENCE, model.condition_shape)]
        if guided:
            draws.insert(0, noise.draw(streams.REFERENCE_NEGATIVE, model.condition_shape))
        features = model.reference_pass(rows, t, torch.cat(draws).to(device))
        v = _guide(model.main_pass(torch.cat([x, x]) if guided else x, t, rows, features), sampler)
        x = scheduler.step(v, int(t), x, eta=0.0, return_dict=False)[0]
    return model.decode(x)


def plain_extract(decoder: MeshDecoder, planes: Tensor, grid: DenseGrid) -> SurfaceMesh:
    """The coloured mesh of planes [1, 3, C, h, w]."""
    features = decoder.features(planes, grid.points[None])  # [1, N, 3C]
    sdf = decoder.sdf_of(features, grid.points)[0, :, 0]
    offsets = torch.tanh(decoder.deformation_of(features)[0]) / (grid.res * 4)
    corners = features[0].index_select(0, grid.cubes.view(-1)).view(len(grid.cubes), -1)
    weights = decoder.weights(corners)  # [C, 21]
    vertices, faces, _ = rowwise_flexicubes(
        grid.points + offsets,
        sdf,
        grid.cubes,
        (grid.res, grid.res, grid.res),
        weights[:, :12],
        weights[:, 12:20],
        weights[:, 20],
        weight_scale=WEIGHT_SCALE,
    )
    return SurfaceMesh(vertices, faces, decoder.rgb(planes, vertices[None])[0].clamp(0, 1))


def _guide(v: Tensor, sampler: SamplerConfig) -> Tensor:
    if sampler.guidance_scale == 1.0:
        return v
    negative, positive = v.chunk(2)
    return negative + sampler.guidance_scale * (positive - negative)
