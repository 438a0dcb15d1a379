"""Geometry: the cheap paths give what the full path gives; failures stay with their object."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from geco_core.config.models import ExtractionConfig
from geco_core.errors import BadItem, Reason
from geco_core.reconstruct.extraction import SurfaceMesh


def gradients(model, planes, weights_on):
    planes = planes.clone().requires_grad_()
    model.zero_grad()
    shape = model.geometry(planes, True, weights_on=weights_on)
    loss = sum((v.square() * torch.arange(1.0, 4.0)).sum() for v in shape.vertices)
    (loss + 3 * shape.surface_reg + shape.sdf_entropy).backward()
    return [planes.grad] + [p.grad for p in model.decoder.parameters() if p.grad is not None]


def test_surface_only_training_has_the_same_mesh_and_gradients(tiny, planes) -> None:
    everywhere, near = (tiny.geometry(planes, True, weights_on=on) for on in ("all", "surface"))
    for a, b in zip(everywhere.vertices, near.vertices, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    for a, b in zip(everywhere.faces, near.faces, strict=True):
        assert torch.equal(a, b)
    for name in ("surface_reg", "sdf_entropy", "sdf_reg"):
        torch.testing.assert_close(getattr(everywhere, name), getattr(near, name))
    pairs = list(
        zip(gradients(tiny, planes, "all"), gradients(tiny, planes, "surface"), strict=True)
    )
    assert len(pairs) == 1 + 3 * 8  # planes; sdf, deformation and weight heads
    for a, b in pairs:
        scale = float(a.abs().max())
        assert scale > 0
        torch.testing.assert_close(a, b, atol=1e-4 * scale, rtol=1e-3)


def test_inference_equals_the_full_path(tiny, planes) -> None:
    full = tiny.geometry(planes, False)
    meshes = tiny.extract(planes, ExtractionConfig(grid_res=12))
    for index, mesh in enumerate(meshes):
        assert isinstance(mesh, SurfaceMesh)
        assert torch.equal(mesh.faces, full.faces[index])
        torch.testing.assert_close(mesh.vertices, full.vertices[index], atol=1e-5, rtol=0)
        rgb = tiny.decoder.rgb(planes[index : index + 1], mesh.vertices[None])[0].clamp(0, 1)
        torch.testing.assert_close(mesh.vertex_rgb, rgb, atol=1e-5, rtol=0)


def test_faces_point_outward(tiny, planes) -> None:
    mesh = tiny.extract(planes * 0.1, ExtractionConfig(grid_res=16))[0]
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    volume = float((a * torch.linalg.cross(b, c)).sum() / 6)
    assert abs(volume - 4 / 3 * torch.pi * 0.5**3) < 0.1


def test_a_failed_object_does_not_fail_the_others(tiny, planes) -> None:
    batch = torch.cat([planes, planes[:1] * float("nan")])
    meshes = tiny.extract(batch, ExtractionConfig(grid_res=12))
    assert isinstance(meshes[0], SurfaceMesh)
    assert isinstance(meshes[2], BadItem)
    assert meshes[2].reason is Reason.NON_FINITE
    with torch.no_grad():
        tiny.decoder.net_sdf[6].bias += 100.0
    empty = tiny.extract(planes, ExtractionConfig(grid_res=12))
    assert [m.reason for m in empty if isinstance(m, BadItem)] == [Reason.EMPTY_MESH] * 2


def test_empty_shapes_are_repaired_in_training(tiny, planes) -> None:
    with torch.no_grad():
        tiny.decoder.net_sdf[6].bias += 100.0
    for on in ("all", "surface"):
        shape = tiny.geometry(planes, True, weights_on=on)
        assert shape.repaired.tolist() == [True, True]
        assert all(len(faces) for faces in shape.faces)
        assert float(shape.sdf_reg.detach().min()) > 1.0
    tiny.zero_grad()
    tiny.geometry(planes, True).sdf_reg.mean().backward()
    assert float(tiny.decoder.net_sdf[6].bias.grad) > 0  # pulls the SDF back towards zero


COUNTS = {"aten.nonzero.default", "aten._unique2.default", "aten.repeat_interleave.Tensor"}
# A value the host reads, and a table the host makes and would have to copy to the device.
WAITS = {
    "aten._local_scalar_dense.default",
    "aten.is_nonzero.default",
    "aten.equal.default",
    "aten.lift_fresh.default",
}


class HostWaits(TorchDispatchMode):
    """Operators for which the host would wait if the tensors were on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = 0
        self.others: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        masks = args[1] if name == "aten.index.Tensor" else ()
        by_mask = any(isinstance(m, torch.Tensor) and m.dtype == torch.bool for m in masks)
        self.counts += by_mask or name in COUNTS
        if name in WAITS:
            self.others.append(name)
        return func(*args, **(kwargs or {}))


def test_the_host_waits_for_counts_alone(tiny, planes) -> None:
    config = ExtractionConfig(grid_res=64, coarse_factor=2)
    tiny.extract(planes, config)  # tables are copied to a device once
    with HostWaits() as one:
        tiny.extract(planes[:1], config)
    with HostWaits() as two:
        tiny.extract(planes, config)
    assert one.others == two.others == []
    assert 0 < one.counts <= 20
    assert two.counts <= 2 * 20


def test_the_watch_sees_what_it_watches_for() -> None:
    with HostWaits() as seen:
        x = torch.arange(4)
        assert bool(x.any())
        x[x > 1]
        x[[0, 2]]
        x.nonzero()
    assert seen.counts == 2
    assert "aten.lift_fresh.default" in seen.others
    assert {"aten._local_scalar_dense.default", "aten.is_nonzero.default"} & set(seen.others)


@pytest.mark.gpu
def test_a_gpu_extracts_the_same_mesh(tiny, planes) -> None:
    config = ExtractionConfig(grid_res=24)
    expected = tiny.extract(planes, config)
    found = tiny.cuda().extract(planes.cuda(), config)
    for a, b in zip(expected, found, strict=True):
        assert isinstance(a, SurfaceMesh)
        assert isinstance(b, SurfaceMesh)
        assert abs(len(a.faces) - len(b.faces)) <= 0.01 * len(a.faces)
