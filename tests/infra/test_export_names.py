"""File names of ids: harmless, readable, never shared."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.export_names import DIGEST_LENGTH, MAX_STEM, safe_name

HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
RESERVED = {"con", "prn", "aux", "nul", "com1", "lpt9"}


@pytest.mark.parametrize("item_id", ["chair", "IMG_0001", "a.b-c_d", "0", "_x"])
def test_plain_names_are_kept(item_id: str) -> None:
    assert safe_name(item_id) == item_id


@pytest.mark.parametrize(
    "item_id",
    [
        "", ".", "..", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "C:\\x", "a\0b", "a\nb",
        ".hidden", "-rf", "con", "NUL.txt", "a.", "ü", "名前", "x" * 500, "a b", "s3://bucket/key",
        "\ud800",
    ],
)  # fmt: skip
def test_others_are_cleaned_and_tagged(item_id: str) -> None:
    name = safe_name(item_id)
    assert HARMLESS.fullmatch(name), name
    assert re.fullmatch(rf".+-[0-9a-f]{{{DIGEST_LENGTH}}}", name)
    assert len(name) <= MAX_STEM + 20
    assert name.split(".")[0].lower() not in RESERVED


def test_an_id_can_not_pose_as_the_tagged_name_of_another() -> None:
    tagged = safe_name("a/b")
    assert safe_name(tagged) != tagged


@given(st.text(max_size=40), st.text(max_size=40))
def test_different_ids_have_different_names(first: str, second: str) -> None:
    assert HARMLESS.fullmatch(safe_name(first))
    assert (safe_name(first) == safe_name(second)) == (first == second)
