"""Rows of CRM's diffusion stages: an object's pictures as the encoders read them.

Legend: F frames, S codec pixels, P vision pixels, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from geco_core.config.crm import ConditionEncodersConfig, ImageDreamConfig
from geco_core.config.train import ExamplesConfig
from geco_core.imaging.content import codec_pixels, vision_pixels
from geco_core.training.augment import Augmentation, augment, draw_augmentation
from geco_core.training.crm_folder import CrmFolder, Entry
from geco_core.training.prompts import TokenIds

NEUTRAL = 127.0


@dataclass(frozen=True)
class FrameRow:
    """One object; pictures float32 in [-1, 1].

    Attributes:
        targets: what is denoised [F, 3, S, S].
        shown: the views [F, 3, S, S] that stage 2 reads; None in stage 1.
        condition: the condition picture [3, S, S].
        vision: the same for the vision tower, normalised [3, P, P].
        prompt: token ids without begin, end and padding.
    """

    targets: Tensor
    shown: Tensor | None
    condition: Tensor
    vision: Tensor
    prompt: tuple[int, ...]


class FrameRows:
    """Rows of a training set, augmented anew in every step.

    Args:
        folder: the objects.
        network: of the stage; one that reads pixel latents is stage 2.
        encoders: say how large pictures are.
        config: of the augmentation.
        seed: of the draws.
        prompt: of a caption.
    """

    def __init__(
        self,
        folder: CrmFolder,
        network: ImageDreamConfig,
        encoders: ConditionEncodersConfig,
        config: ExamplesConfig,
        seed: int,
        prompt: TokenIds,
    ) -> None:
        self.folder = folder
        self._network, self._encoders, self._config = network, encoders, config
        self._seed, self._prompt = seed, prompt

    def __len__(self) -> int:
        """Objects that are trained on."""
        return len(self.folder.train)

    def row(self, step: int, place: int, row: int) -> FrameRow:
        """The row at a place of the batch of `step`: a pure function of its arguments.

        Raises:
            Fatal: neither the object nor those after it can be read.
        """
        drawn = draw_augmentation(self._seed, step, place, self._config)
        return self.folder.usable(row, lambda entry: self._made(entry, drawn))

    def plain(self, row: int, *, heldout: bool) -> FrameRow:
        """A row without augmentation, but for the content's size.

        Raises:
            Fatal: as `row`.
        """
        drawn = Augmentation(ratio=self._config.content_ratio, background=NEUTRAL)
        return self.folder.usable(row, lambda entry: self._made(entry, drawn), heldout=heldout)

    def _made(self, entry: Entry, drawn: Augmentation) -> FrameRow:
        second = self._network.pixel_latents
        stored = self.folder.read(entry, ccms=second)
        pictures = augment(stored, drawn, self._network.rig.views)
        views = self._frames(pictures.views)
        condition = np.ascontiguousarray(pictures.condition)
        return FrameRow(
            targets=views if pictures.ccms is None else self._frames(pictures.ccms),
            shown=views if second else None,
            condition=codec_pixels(condition, self._encoders.image_size),
            vision=vision_pixels(condition, self._encoders.vision.image_size),
            prompt=self._prompt(stored.caption),
        )

    def _frames(self, pictures: np.ndarray) -> Tensor:
        size = self._encoders.image_size
        return torch.stack([codec_pixels(np.ascontiguousarray(p), size) for p in pictures])


@dataclass(frozen=True)
class FrameRowBatch:
    """Rows side by side: `FrameRow` with a leading axis b; tokens are int64 [b, L]."""

    targets: Tensor
    shown: Tensor | None
    condition: Tensor
    vision: Tensor
    tokens: Tensor

    def to(self, device: torch.device) -> FrameRowBatch:
        """The same batch on a device."""
        shown = None if self.shown is None else self.shown.to(device)
        names = ("targets", "condition", "vision", "tokens")
        return replace(self, shown=shown, **{n: getattr(self, n).to(device) for n in names})


def stack_rows(rows: Sequence[FrameRow], tokens: Sequence[Sequence[int]]) -> FrameRowBatch:
    """Rows and their filled-up token ids as one batch."""
    shown = [row.shown for row in rows if row.shown is not None]
    return FrameRowBatch(
        targets=torch.stack([row.targets for row in rows]),
        shown=torch.stack(shown) if shown else None,
        condition=torch.stack([row.condition for row in rows]),
        vision=torch.stack([row.vision for row in rows]),
        tokens=torch.tensor(tokens),
    )
