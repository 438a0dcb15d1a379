"""Targets as columns: there and back, readable without our code, and damage is noticed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from infra.dataset import ROW_SCHEMA
from infra.targets.columns import TARGET_SCHEMA, decode_target, target_fault
from tests.infra.targets.made import made_columns, made_target, same_target


def through_arrow(columns: dict[str, Any]) -> dict[str, Any]:
    arrays = [pa.array([columns[f.name]], f.type) for f in TARGET_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=TARGET_SCHEMA).to_pylist()[0]


def row(number: int = 0) -> dict[str, Any]:
    named = {"item_id": f"i{number}", "seed": number}
    return through_arrow(made_columns(number)) | named


def test_columns_do_not_collide_with_the_ordinary_ones() -> None:
    assert not {*TARGET_SCHEMA.names} & {*ROW_SCHEMA.names}


def test_there_and_back() -> None:
    same_target(decode_target(row(3)), made_target(3))


def test_renders_are_chosen_in_the_order_asked_for() -> None:
    whole, some = made_target(1), decode_target(row(1), renders=[2, 0])
    np.testing.assert_array_equal(some.renders, whole.renders[[2, 0]])
    np.testing.assert_array_equal(some.w2c, whole.w2c[[2, 0]])


def test_what_is_not_asked_for_need_not_be_there() -> None:
    short = {k: v for k, v in row().items() if k not in {"renders", "w2c", "latents"}}
    target = decode_target(short, renders=(), latents=False)
    assert len(target.renders) == len(target.w2c) == target.latents.size == 0
    np.testing.assert_array_equal(target.condition, made_target().condition)


def test_a_row_is_read_with_pyarrow_and_pillow_alone() -> None:
    cells, target = row(), made_target()
    image = Image.open(io.BytesIO(cells["renders"][1]["bytes"]))
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(image), target.renders[1])
    latents = np.frombuffer(cells["latents"], "<f2").reshape(cells["latents_shape"])
    np.testing.assert_array_equal(latents, target.latents)
    assert cells["noise"][0] == {"stream": "initial", "seed": 2**62}
    assert cells["condition"]["path"].endswith("-condition.png")


def test_a_sound_row_has_no_fault() -> None:
    assert target_fault(row()) == ""


@pytest.mark.parametrize("name", [n for n in TARGET_SCHEMA.names if n != "target_sha256"])
def test_any_change_is_a_fault(name: str) -> None:
    changed, other = row(0), row(1)
    if name in {"fov_deg", "teacher_digest", "digests", "noise", "latents_shape"}:
        other = other | {
            "fov_deg": 51.0,
            "teacher_digest": "u",
            "digests": {"condition": "d", "settings": "s", "weights": "w"},
            "noise": [],
            "latents_shape": [24],
        }
    changed[name] = other[name]
    assert "sha256 of the target" in target_fault(changed)


def test_missing_columns_are_named() -> None:
    assert "renders of the target are missing" in target_fault(row() | {"renders": None})
