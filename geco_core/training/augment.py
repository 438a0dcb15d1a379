"""How a training row of CRM's diffusion stages is made of a stored object.

Follows CRM (arXiv 2403.05034, data augmentation, and its published code as measured): one of the
views is taken as the front, the content of all pictures is resized alike, one random grey lies
behind them, and the condition picture of stage 1 may get a coloured outline; targets stay clean.
What is not known is whether the outline is drawn before or after the content is resized; here it is
drawn before, at the resolution of the file.

Legend: F frames, N pixels per side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geco_core.config.train import ExamplesConfig
from geco_core.imaging.content import resize_content
from geco_core.imaging.relabel import blend, relabel_ccms, relabel_views
from geco_core.imaging.stroke import MAX_THICKNESS, add_stroke
from geco_core.training.crm_folder import CrmObject


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for a row.

    Attributes:
        front: the view taken as the front.
        ratio: size of the content, in (0, 1].
        background: grey level 0..255.
        stroke: colour and thickness of the outline; None without one.
    """

    front: int = 0
    ratio: float = 1.0
    background: float = 127.0
    stroke: tuple[tuple[int, int, int], int] | None = None


@dataclass(frozen=True)
class AugmentedObject:
    """Pictures of a row, uint8.

    Attributes:
        views: [F, N, N, 3], in the order of the frames.
        ccms: [F, N, N, 3]; None where the object has none.
        condition: [N, N, 3].
    """

    views: np.ndarray
    ccms: np.ndarray | None
    condition: np.ndarray


def draw_augmentation(seed: int, step: int, place: int, config: ExamplesConfig) -> Augmentation:
    """What is drawn for a place of the global batch: a pure function of the arguments."""
    digest = hashlib.sha256(f"{seed}/{step}/{place}/augment".encode()).digest()
    random = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
    front = config.fronts[int(random.integers(len(config.fronts)))]
    scale, background = random.uniform(*config.content_scale), random.uniform(*config.background)
    stroked = random.random() < config.stroke_share
    red, green, blue = (int(level) for level in random.integers(0, 256, 3))
    thickness = int(random.integers(1, MAX_THICKNESS + 1))
    return Augmentation(
        front,
        float(scale) * config.content_ratio,
        float(background),
        ((red, green, blue), thickness) if stroked else None,
    )


def augment(made: CrmObject, drawn: Augmentation, order: Sequence[int]) -> AugmentedObject:
    """The pictures of a row.

    Args:
        made: the object.
        drawn: see `draw_augmentation`.
        order: view of every frame.

    Raises:
        ValueError: the ratio leaves no pixel.
    """
    turned = relabel_views(made.views, drawn.front)
    shrunk = np.stack([resize_content(view, drawn.ratio) for view in turned])
    views = blend(shrunk, drawn.background)
    condition = views[0]
    if drawn.stroke is not None:
        outlined = resize_content(add_stroke(turned[0], *drawn.stroke), drawn.ratio)
        condition = blend(outlined, drawn.background)
    chosen, ccms = list(order), None
    if made.ccms is not None:
        maps = relabel_ccms(made.ccms, drawn.front)
        small = np.stack([resize_content(ccm, drawn.ratio) for ccm in maps])
        over = blend(np.concatenate([small, shrunk[..., 3:]], axis=-1), drawn.background)
        ccms = over[chosen]
    return AugmentedObject(views[chosen], ccms, condition)
