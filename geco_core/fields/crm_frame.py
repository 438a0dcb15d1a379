"""CRM's canonical frame against the world frame of this project.

CRM (arXiv 2403.05034), measured from its published examples: z up, the front camera at +y, its
left camera at +x; objects fill [-0.95, 0.95]. The world frame has the front at +x and the object's
left at +y, so the two differ by a quarter turn about z, a proper rotation. What CRM calls the left
view lies to the left of one who looks at the front: it shows the object's right side.

Legend: ... any leading axes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def canonical_to_world(points: Tensor) -> Tensor:
    """World points or directions [..., 3] of canonical ones: (x, y, z) -> (y, -x, z)."""
    x, y, z = points.unbind(-1)
    return torch.stack([y, -x, z], -1)


def world_to_canonical(points: Tensor) -> Tensor:
    """Inverse of `canonical_to_world`: (x, y, z) -> (-y, x, z)."""
    x, y, z = points.unbind(-1)
    return torch.stack([-y, x, z], -1)
