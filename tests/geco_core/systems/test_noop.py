"""The model-free system: valid boxes, seeds that matter, and faults that do what they say."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from geco_core.errors import BadItem, ConfigError, Fatal
from geco_core.mesh.gate import check_mesh
from geco_core.mesh.glb_read import read_glb
from geco_core.systems import SYSTEMS, build_system, describe_system
from geco_core.types import Asset, Condition, Item, Mesh, System


def box(seed: int, *overrides: str) -> Mesh:
    made = build_system("noop", "micro", overrides).generate([Condition("i1")], [seed])[0]
    assert isinstance(made, Mesh)
    return made


def test_it_is_a_system_that_makes_valid_closed_boxes() -> None:
    assert isinstance(build_system("noop", "micro"), System)
    mesh = box(7)
    check_mesh(mesh)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert volume == pytest.approx(float(np.prod(np.ptp(mesh.vertices, axis=0))), rel=1e-5)


def test_the_seed_decides_the_box() -> None:
    assert np.array_equal(box(7).vertices, box(7).vertices)
    assert not np.array_equal(box(7).vertices, box(8).vertices)


def test_faults_do_what_they_say() -> None:
    assert np.isnan(box(1, "faults.i1=non_finite").vertices).any()
    assert len(box(1, "faults.i1=empty").faces) == 0
    with pytest.raises(ValueError, match="generate"):
        box(1, "faults.i1=generate")
    with pytest.raises(Fatal):
        box(1, "faults.i1=fatal")
    with pytest.raises(BadItem):
        build_system("noop", "micro", ["faults.i1=bad_item"]).prepare(Item("i1", prompt="x"))


def test_an_asset_is_finished_already() -> None:
    system = build_system("noop", "micro", ["output=asset", "faults.b=empty"])
    good, bad = system.generate([Condition("a"), Condition("b")], [1, 2])
    assert isinstance(good, Asset)
    assert hashlib.sha256(good.glb).hexdigest() == good.glb_sha256
    assert len(read_glb(good.glb).mesh.faces) == good.mesh_stats["n_faces"] == 12
    assert isinstance(bad, Mesh)
    assert len(bad.faces) == 0


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        build_system("nop", "micro")
    assert "'noop'" in caught.value.remedy
    with pytest.raises(ConfigError, match="noop-full"):
        build_system("noop", "full")
    with pytest.raises(ConfigError, match="unknown configuration key 'sleep'"):
        describe_system("noop", "micro", ["sleep=1"])


def test_every_system_can_be_described_without_loading_it() -> None:
    for name in SYSTEMS:
        described = describe_system(name, "micro")
        assert described["system"] == ("instantmesh" if name == "targets" else name)
