"""CRM's frame against ours, by the cameras of both."""

from __future__ import annotations

import torch

from geco_core.fields.crm_frame import canonical_to_world, world_to_canonical


def test_the_maps_are_one_rotation_and_its_inverse() -> None:
    turn = canonical_to_world(torch.eye(3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.tensor(1.0))
    points = torch.randn(5, 3)
    assert torch.equal(world_to_canonical(canonical_to_world(points)), points)


def test_the_front_stays_the_front_and_up_stays_up() -> None:
    front, up = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(canonical_to_world(front), torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(canonical_to_world(up), up)
    # CRM's left view (camera at +x) shows the object's right side, which is -y in our world.
    left = canonical_to_world(torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(left, torch.tensor([0.0, -1.0, 0.0]))
