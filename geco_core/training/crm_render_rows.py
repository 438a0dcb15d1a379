"""Rows of CRM's reconstructor: the input made of an object's pictures, and some of its renders.

Follows CRM (arXiv 2403.05034, section 4.1): true views and coordinate maps, content at 0.95 over
grey 127, no augmentation besides; of an object's renders some are drawn in every step.

Legend: S plane side, K renders of an object, k of them, R render side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geco_core.distill.draws import row_generator
from geco_core.distill.target_images import over_white
from geco_core.errors import BadItem, ConfigError, Reason
from geco_core.imaging.content import codec_pixels
from geco_core.reconstruct.crm_input import network_input
from geco_core.training.augment import Augmentation, augment
from geco_core.training.crm_folder import VIEWS, CrmFolder, CrmObject, Entry, bad_object
from geco_core.training.crm_renders import Cameras, CrmRenders, read_cameras, read_renders
from geco_core.training.rendered import RenderedBatch, Renders, draw_views

GREY = 127.0
WHITE = 1.0


@dataclass(frozen=True)
class RenderRow:
    """One object.

    Attributes:
        inputs: [12, S, 3 S] in [0, 1].
        renders: k of them.
    """

    inputs: Tensor
    renders: CrmRenders


class RenderRows:
    """Rows of a training set.

    Args:
        folder: the objects.
        plane_size: S.
        render_size: R.
        views: k.
        content_ratio: size of the content in the input's pictures.
        seed: of the draws.

    Raises:
        ConfigError: the stored renders are fewer or of another size.
        Fatal: no object has any.
    """

    def __init__(
        self,
        folder: CrmFolder,
        plane_size: int,
        render_size: int,
        views: int,
        content_ratio: float,
        seed: int,
    ) -> None:
        self.folder = folder
        self._plane_size, self._render_size, self._views = plane_size, render_size, views
        self._ratio, self._seed = content_ratio, seed
        cameras, first = folder.usable(0, self._first)
        if len(cameras.c2w) < views:
            raise ConfigError(
                f"a step looks at {views} renders, an object has {len(cameras.c2w)}",
                stage="train",
                remedy=f"set render.views_per_step={len(cameras.c2w)}, or render more",
            )
        if first.rgba.shape[1] != render_size:
            raise ConfigError(
                f"the renders have {first.rgba.shape[1]} pixels, training makes {render_size}",
                stage="train",
                remedy=f"set render.render_size={first.rgba.shape[1]}",
            )
        self._fov_deg = cameras.fov_deg

    def __len__(self) -> int:
        """Objects that are trained on."""
        return len(self.folder.train)

    def row(self, step: int, place: int, row: int) -> RenderRow:
        """The row at a place of the batch of `step`: a pure function of its arguments.

        Raises:
            Fatal: neither the object nor those after it can be read.
        """

        def choose(stored: int) -> Sequence[int]:
            # Anew for every object that is tried: the draw must not depend on those before it.
            draws = row_generator(self._seed, step, place, "renders")
            return draw_views(1, self._views, stored, draws)[0].tolist()

        return self.folder.usable(row, lambda entry: self._made(entry, choose))

    def plain(self, row: int, *, heldout: bool) -> RenderRow:
        """A row with the first renders of its object. Raises `Fatal` as `row`."""
        return self.folder.usable(
            row, lambda entry: self._made(entry, lambda _: range(self._views)), heldout=heldout
        )

    def _first(self, entry: Entry) -> tuple[Cameras, CrmRenders]:
        cameras = read_cameras(self.folder.files, entry.item_id)
        found = read_renders(self.folder.files, entry.item_id, cameras, [0], self.folder.limits)
        return cameras, found

    def _made(self, entry: Entry, choose: Callable[[int], Sequence[int]]) -> RenderRow:
        files, item_id = self.folder.files, entry.item_id
        cameras = read_cameras(files, item_id)
        stored = len(cameras.c2w)
        if stored < self._views:
            raise bad_object(
                item_id, f"it has {stored} renders, {self._views} are drawn", Reason.CORRUPT_IMAGE
            )
        if abs(cameras.fov_deg - self._fov_deg) > 1e-4:
            raise self._foreign(item_id, f"a field of view of {cameras.fov_deg} degrees")
        renders = read_renders(files, item_id, cameras, choose(stored), self.folder.limits)
        if renders.rgba.shape[1] != self._render_size:
            raise self._foreign(item_id, f"renders of {renders.rgba.shape[1]} pixels")
        return RenderRow(self._inputs(self.folder.read(entry)), renders)

    def _foreign(self, item_id: str, what: str) -> BadItem:
        return bad_object(item_id, f"it has {what}, other objects have not", Reason.CORRUPT_IMAGE)

    def _inputs(self, made: CrmObject) -> Tensor:
        drawn = Augmentation(ratio=self._ratio, background=GREY)
        pictures = augment(made, drawn, range(VIEWS))
        assert pictures.ccms is not None
        return network_input(*(self._values(p) for p in (pictures.views, pictures.ccms)))[0]

    def _values(self, pictures: np.ndarray) -> Tensor:
        """uint8 [6, N, N, 3] -> [1, 6, 3, S, S] in [0, 1]."""
        size = self._plane_size
        sized = [codec_pixels(np.ascontiguousarray(p), size) for p in pictures]
        return (torch.stack(sized)[None] + 1.0) / 2.0


def rendered_batch(row: RenderRow) -> RenderedBatch:
    """A row as a batch of one, renders over white."""
    found = row.renders
    images, masks = over_white(found.rgba)
    return RenderedBatch(
        row.inputs[None],
        Renders(
            images=images[None],
            masks=masks[None, :, 0],
            depths=torch.from_numpy(found.depth)[None],
            c2w=found.c2w[None],
            fov_deg=found.fov_deg,
            background=WHITE,
        ),
    )
