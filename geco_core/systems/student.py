"""Views by the one-step student, reading every condition once.

GECO's generator (arXiv 2405.20327) reads the clean condition, so its reference pass depends on
neither the initial noise nor a step: many seeds of one image share it. It is kept for the last
conditions, within a batch and from one batch to the next. For this the draw of the codec's
posterior comes from the condition's digest and not from the item's seed, which starts the sample
alone. The models must not change while their passes are kept.

Legend: B items, U conditions, G rows of a guided pass (1 without guidance, else negative and
positive), V views.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geco_core.config.models import SamplerConfig
from geco_core.diffusion import noise as streams
from geco_core.diffusion.noise import ItemNoise
from geco_core.diffusion.reference_attention import ReferenceFeatures
from geco_core.imaging.framing import condition_pixels
from geco_core.multiview.condition import ViewCondition, concatenate, guidance_rows
from geco_core.multiview.zero123plus import Zero123Plus


@dataclass(frozen=True)
class ReadCondition:
    """What one condition is to the student.

    Attributes:
        rows: [G] rows: negative first where there is guidance.
        features: [G] rows of the reference pass.
    """

    rows: ViewCondition
    features: ReferenceFeatures


class StudentViews:
    """Condition images and seeds in, views out.

    Args:
        model: in eval mode.
        sampler: `one_step`; its guidance scale and reference time are used.
        capacity: conditions that are kept, the last used ones.
    """

    def __init__(self, model: Zero123Plus, sampler: SamplerConfig, capacity: int) -> None:
        self.passes = 0
        self._model = model
        self._sampler = sampler
        self._capacity = capacity
        self._kept: OrderedDict[str, ReadCondition] = OrderedDict()

    def __call__(self, images: Sequence[np.ndarray], seeds: Sequence[int]) -> Tensor:
        """Views [B, V, 3, view, view] in [0, 1], float32, on the model's device.

        Args:
            images: framed and composited, uint8 [N, N, 3] each.
            seeds: one per image; they start the samples.
        """
        keys = [_digest(image) for image in images]
        read = self._read(dict(zip(keys, images, strict=True)))
        model, scale = self._model, self._sampler.guidance_scale
        groups = [_rows([read[key] for key in keys], row) for row in range(self._rows_per_item)]
        negative = groups[0].rows if len(groups) == 2 else None
        z = ItemNoise(seeds).draw(streams.INITIAL, model.latent_shape).to(model.device)
        latents = model.one_step(
            z,
            groups[-1].rows,
            reference=_joined([group.features for group in groups]),
            negative=negative,
            guidance_scale=scale,
        )
        return decode_each(model, latents)

    @property
    def _rows_per_item(self) -> int:
        return 1 if self._sampler.guidance_scale == 1.0 else 2

    def _read(self, images: Mapping[str, np.ndarray]) -> dict[str, ReadCondition]:
        """Every condition by its digest, read where it is not kept."""
        found = {key: self._kept[key] for key in images if key in self._kept}
        new = {key: image for key, image in images.items() if key not in found}
        if new:
            found |= dict(zip(new, self._pass(list(new), list(new.values())), strict=True))
        for key, read in found.items():
            self._kept[key] = read
            self._kept.move_to_end(key)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return found

    def _pass(self, keys: Sequence[str], images: Sequence[np.ndarray]) -> list[ReadCondition]:
        model, sampler = self._model, self._sampler
        vae_U3SS, clip_U3PP = (
            pixels.to(model.device) for pixels in condition_pixels(images, model.config)
        )
        noise = ItemNoise([int(key[:15], 16) for key in keys])
        draw = noise.draw(streams.POSTERIOR, model.condition_shape).to(model.device)
        condition = model.encode_condition(vae_U3SS, clip_U3PP, draw)
        negative = None
        if self._rows_per_item == 2:
            draw = noise.draw(streams.POSTERIOR_NEGATIVE, model.condition_shape).to(model.device)
            negative = model.negative_condition(len(keys), draw)
        rows = guidance_rows(condition, negative, sampler.guidance_scale)
        features = model.reference_pass(rows, sampler.reference_t)
        self.passes += len(keys)
        places = [slice(u, None, len(keys)) for u in range(len(keys))]
        return [
            ReadCondition(
                ViewCondition(rows.latents[place].clone(), rows.states[place].clone()),
                _taken(features, place),
            )
            for place in places
        ]


def decode_each(model: Zero123Plus, latents_BcHW: Tensor) -> Tensor:
    """Views [B, V, 3, view, view] of tile latents, one tile at a time.

    One fills a GPU, and an autoencoder's activations would multiply with the batch.
    """
    return torch.cat([model.decode(latents_1cHW) for latents_1cHW in latents_BcHW.split(1)])


def _digest(image: np.ndarray) -> str:
    shape = f"{image.shape}{image.dtype}".encode()
    return hashlib.sha256(shape + np.ascontiguousarray(image).tobytes()).hexdigest()


def _rows(read: Sequence[ReadCondition], row: int) -> ReadCondition:
    """Row `row` of every condition, [B]."""
    place = slice(row, row + 1)
    conditions = [ViewCondition(r.rows.latents[place], r.rows.states[place]) for r in read]
    return ReadCondition(
        concatenate(*conditions),
        _joined([_taken(r.features, place, copy=False) for r in read]),
    )


def _joined(parts: Sequence[ReferenceFeatures]) -> ReferenceFeatures:
    if len(parts) == 1:
        return parts[0]
    layers = {name: torch.cat([p.layers[name] for p in parts]) for name in parts[0].layers}
    return ReferenceFeatures(layers, torch.cat([p.latents for p in parts]))


def _taken(features: ReferenceFeatures, place: slice, *, copy: bool = True) -> ReferenceFeatures:
    """Some rows; a copy, because a view would keep all other rows alive."""
    taken = {name: x[place] for name, x in features.layers.items()}
    if copy:
        taken = {name: x.clone() for name, x in taken.items()}
    return ReferenceFeatures(taken, features.latents[place].clone())
