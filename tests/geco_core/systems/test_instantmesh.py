"""The teacher chain as a system: batch invariance, seeds, bad members, provenance."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from geco_core.config import load as config_load
from geco_core.config.models import ExtractionConfig, InstantMeshConfig
from geco_core.errors import BadItem, ConfigError, Reason
from geco_core.fields.color import DeviceColor, TriplaneColor
from geco_core.imaging.framing import condition_pixels
from geco_core.multiview.generate import generate_views
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.shapes.dataset import make_example
from geco_core.shapes.object import object_seed
from geco_core.systems.instantmesh import InstantMeshSystem, build_instantmesh
from geco_core.types import Item, Mesh, MultiView, System, Teacher

SMALL = ["sampler.steps=2", "extraction.grid_res=24", "extraction.exact=true", "device=cpu"]


@pytest.fixture(scope="module")
def system() -> InstantMeshSystem:
    """Micro sizes with random weights: what is tested here does not depend on training."""
    preset = config_load.preset_path("instantmesh", "micro")
    config = config_load.load(InstantMeshConfig, preset, SMALL)
    torch.manual_seed(0)
    multiview, reconstructor = Zero123Plus(config.multiview), InstantMesh(config.reconstructor)
    return InstantMeshSystem(config, multiview, reconstructor, "digest", torch.device("cpu"))


def _item(index: int) -> Item:
    example = make_example(object_seed("heldout", index), n_sdf=2, n_color=1)
    buffer = io.BytesIO()
    Image.fromarray(example.condition, "RGBA").save(buffer, format="PNG")
    return Item(f"object-{index}", image=buffer.getvalue())


def _meshes(results: list[Mesh | BadItem]) -> list[Mesh]:
    assert all(isinstance(r, Mesh) for r in results), results
    return [r for r in results if isinstance(r, Mesh)]


def test_it_is_a_system_and_a_teacher(system: InstantMeshSystem) -> None:
    assert isinstance(system, System)
    assert isinstance(system, Teacher)


def test_an_item_gives_the_same_bytes_alone_and_in_any_batch(system: InstantMeshSystem) -> None:
    conditions = [system.prepare(_item(i)) for i in range(3)]
    together = _meshes(system.generate(conditions, [11, 12, 13]))
    reordered = _meshes(system.generate(conditions[::-1], [13, 12, 11]))[::-1]
    alone = [
        _meshes(system.generate([c], [s]))[0] for c, s in zip(conditions, (11, 12, 13), strict=True)
    ]
    for first, second, third in zip(together, reordered, alone, strict=True):
        for other in (second, third):
            assert first.vertices.tobytes() == other.vertices.tobytes()
            assert first.faces.tobytes() == other.faces.tobytes()
            assert first.colors is not None
            assert other.colors is not None
            assert first.colors.tobytes() == other.colors.tobytes()


def test_the_seed_decides(system: InstantMeshSystem) -> None:
    condition = system.prepare(_item(0))
    first, second = _meshes(system.generate([condition, condition], [1, 2]))
    assert first.vertices.tobytes() != second.vertices.tobytes()


def test_stages_are_timed(system: InstantMeshSystem) -> None:
    system.generate([system.prepare(_item(0))], [1])
    assert set(system.timing()) == {"multiview", "reconstruct", "extract"}
    assert min(system.timing().values()) > 0


def test_the_condition_is_framed_to_the_ratio(system: InstantMeshSystem) -> None:
    rgba = system.prepare(_item(3)).rgba
    assert rgba is not None
    rows, columns = np.nonzero(rgba[..., 3] > 0)
    longest = max(np.ptp(rows), np.ptp(columns)) / rgba.shape[0]
    assert longest == pytest.approx(system.config.multiview.foreground_ratio, abs=0.03)


def test_an_empty_surface_fails_its_item_alone(
    system: InstantMeshSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = [system.prepare(_item(i)) for i in range(2)]
    views = system.multiview(conditions, [1, 2])
    model = system.models[1]
    assert isinstance(model, InstantMesh)
    original = model.extract_each

    def first_empty(planes: torch.Tensor, config: ExtractionConfig) -> Iterator[object]:
        yield BadItem("empty", reason=Reason.EMPTY_MESH, stage="extract")
        yield from original(planes[1:], config)

    monkeypatch.setattr(model, "extract_each", first_empty)
    first, second = system.reconstruct(views)
    assert isinstance(first, BadItem)
    assert isinstance(second, Mesh)


def with_changes(system: InstantMeshSystem, *changes: str) -> InstantMeshSystem:
    preset = config_load.preset_path("instantmesh", "micro")
    config = config_load.load(InstantMeshConfig, preset, [*SMALL, *changes])
    return InstantMeshSystem(config, *system.models, "digest", torch.device("cpu"))


def test_the_configured_precision_is_used_and_stays_close(system: InstantMeshSystem) -> None:
    condition = system.prepare(_item(0))
    exact = system.multiview([condition], [1])
    low = with_changes(system, "dtype=bfloat16")
    rounded = low.multiview([condition], [1])
    assert not torch.equal(exact.images, rounded.images)
    assert rounded.images.dtype == torch.float32
    assert float((exact.images - rounded.images).abs().mean()) < 0.02
    (mesh,) = _meshes(low.reconstruct(exact))
    (expected,) = _meshes(system.reconstruct(exact))
    assert mesh.vertices.dtype == np.float32
    assert abs(len(mesh.vertices) - len(expected.vertices)) < 0.2 * len(expected.vertices)


def test_views_of_another_size_are_resized_for_the_encoder(system: InstantMeshSystem) -> None:
    views = system.multiview([system.prepare(_item(0))], [1])
    larger = torch.nn.functional.interpolate(views.images[0], scale_factor=2.0)[None]
    (expected,) = _meshes(system.reconstruct(views))
    (found,) = _meshes(system.reconstruct(MultiView(larger, views.cameras)))
    assert abs(len(found.vertices) - len(expected.vertices)) < 0.2 * len(expected.vertices)


def test_unknown_overrides_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        build_instantmesh("micro", ["samplr.steps=3"])
    assert "sampler" in caught.value.remedy


def test_the_one_step_sampler_reads_a_repeated_condition_once(system: InstantMeshSystem) -> None:
    student = with_changes(system, "sampler.kind=one_step", "sampler.guidance_scale=1.0")
    conditions = [system.prepare(_item(i)) for i in (0, 1)]
    views = student.multiview([conditions[0], conditions[1], conditions[0]], [1, 2, 3]).images
    assert student._student.passes == 2
    again = student.multiview([conditions[0]], [3]).images
    assert student._student.passes == 2
    assert torch.equal(again[0], views[2])
    # The patch codec's posterior has no width: the plain way makes the same views.
    image = student._condition_rgb(conditions[0])
    pixels = condition_pixels([image], student.config.multiview)
    with torch.inference_mode():
        plain = generate_views(student.models[0], pixels, [3], student.config.sampler)
    assert torch.equal(plain, again)


def test_the_colour_field_is_not_copied_for_a_mesh_without_texture(
    system: InstantMeshSystem,
) -> None:
    (mesh,) = _meshes(system.generate([system.prepare(_item(0))], [1]))
    assert isinstance(mesh.color_fn, DeviceColor)
    assert "on_host" not in vars(mesh.color_fn)
    travelled = pickle.loads(pickle.dumps(mesh)).color_fn
    assert isinstance(travelled, TriplaneColor)
    assert mesh.colors is not None
    near = travelled(mesh.vertices[:200]) * 255 - mesh.colors[:200]
    assert np.abs(near).mean() < 2.0
