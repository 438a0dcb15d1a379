"""Cells that no decoder likes cost their row, not the shard."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest

from geco_core.errors import BadItem, Fatal, ManifestError, Reason
from infra.cells import (
    copyable,
    id_fault,
    listed,
    readable,
    replaced,
    text_fault,
    to_list,
)


def invalid() -> pa.StringArray:
    """ "a", two bytes that are not UTF-8, "c"."""
    offsets = pa.py_buffer(struct.pack("<4i", 0, 1, 3, 4))
    return pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"a\xff\xfec"))


@pytest.mark.parametrize(
    "column",
    [
        invalid(),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), invalid()),
        invalid().cast(pa.binary()).cast(pa.large_binary()).view(pa.large_string()),
    ],
    ids=["plain", "dictionary", "large"],
)
def test_bytes_become_surrogates_and_are_told_apart(column: pa.Array) -> None:
    values = to_list(pa.chunked_array([column]))
    assert values == ["a", "\udcff\udcfe", "c"]
    assert [bool(text_fault(value)) for value in values] == [False, True, False]
    assert replaced(values[1]) == "??"


def test_sound_columns_are_read_as_ever() -> None:
    column = pa.chunked_array([pa.array(["a", None, "ü"])])
    assert to_list(column) == ["a", None, "ü"]


def test_copies_hold_replacement_characters() -> None:
    nested = pa.StructArray.from_arrays([invalid()], ["text"])
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3]), invalid())
    table = pa.table({"n": [1, 2, 3], "t": invalid(), "s": nested, "l": lists})
    clean = copyable(table)
    assert clean.schema == table.schema
    clean.validate(full=True)
    assert clean.column("n").to_pylist() == [1, 2, 3]
    assert clean.column("t").to_pylist() == ["a", "\ufffd\ufffd", "c"]
    assert clean.column("s").to_pylist()[1] == {"text": "\ufffd\ufffd"}
    assert clean.column("l").to_pylist()[1] == ["\ufffd\ufffd"]


def test_sound_tables_are_copied_as_they_are() -> None:
    table = pa.table({"t": ["a", "ü"]})
    assert copyable(table) is table


@pytest.mark.parametrize("text", ["a\nb", "\x00", "a\x1b[31m", "\x7f", "\x85", "\u2028", "\ud800"])
def test_ids_that_are_refused(text: str) -> None:
    assert id_fault(text)


@pytest.mark.parametrize("text", ["a b", "chair/01.png", "größe", "大", "a\u00a0b", "🪑", "'\"<>&"])
def test_ids_that_are_not(text: str) -> None:
    assert id_fault(text) == ""


def test_names_are_shown_in_moderation() -> None:
    assert listed(["a", "b\x1b"]) == "a, b?"
    assert listed(["x" * 100]) == "x" * 60 + "..."
    assert listed([str(i) for i in range(25)]).endswith("19 and 5 more")
    assert listed([]) == ""


def test_damage_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ManifestError) as caught, readable("m.parquet"):
        raise pa.ArrowInvalid("no\n  luck")
    assert caught.value.message.endswith("m.parquet can not be read: no luck")
    assert caught.value.remedy
    with pytest.raises(Fatal) as stopped, readable("m.parquet", Fatal):
        raise OSError("gone")
    assert not isinstance(stopped.value, ManifestError)
    with pytest.raises(KeyError), readable("m.parquet"):
        raise KeyError
    with pytest.raises(BadItem), readable("m.parquet"):
        raise BadItem("x", reason=Reason.NOT_FOUND)
