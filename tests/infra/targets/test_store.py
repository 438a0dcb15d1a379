"""The store by content: first writer wins, damage never gets out."""

from __future__ import annotations

import numpy as np
import pytest

from infra.targets.store import (
    DamagedTarget,
    TargetStore,
    decode_object,
    encode_object,
    object_key,
)
from tests.infra.targets.made import made_columns, made_stored
from tests.support.stores import MemoryStorage

KEY = made_columns()["target_key"]


def test_what_is_put_is_what_is_got() -> None:
    memory = MemoryStorage()
    store, stored = TargetStore(memory), made_stored()
    assert store.get(KEY) is None
    assert store.put(stored)
    assert list(memory.objects) == [f"objects/00/{KEY}.safetensors"]
    found = store.get(KEY)
    assert found is not None
    wanted = dict(stored.columns)
    np.testing.assert_array_equal(found.columns["w2c"], wanted["w2c"])
    for name, value in wanted.items():
        if name != "w2c":
            assert found.columns[name] == value, name
    for name in ("vertices", "faces", "colors"):
        ours, theirs = getattr(stored.mesh, name), getattr(found.mesh, name)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_the_first_one_stands_unless_it_is_replaced() -> None:
    memory = MemoryStorage()
    store = TargetStore(memory)
    assert store.put(made_stored())
    before = memory.objects[object_key(KEY)]
    assert not store.put(made_stored())
    assert memory.objects[object_key(KEY)] == before
    assert memory.writes[object_key(KEY)] == 1
    memory.objects[object_key(KEY)] = b"torn"
    assert store.put(made_stored(), replace=True)
    assert store.get(KEY) is not None


def test_the_same_target_is_the_same_object() -> None:
    assert encode_object(made_stored(4)) == encode_object(made_stored(4))


def test_every_flipped_byte_is_noticed() -> None:
    data = encode_object(made_stored())
    whole = decode_object(data, KEY)
    step = max(1, len(data) // 199)
    for place in range(0, len(data), step):
        torn = bytearray(data)
        torn[place] ^= 0x41
        try:
            found = decode_object(bytes(torn), KEY)
        except DamagedTarget:
            continue
        # Spaces that pad the header may differ; nothing that is read may.
        assert found.columns["target_sha256"] == whole.columns["target_sha256"]
        np.testing.assert_array_equal(found.mesh.vertices, whole.mesh.vertices)


@pytest.mark.parametrize("cut", [0, 7, 60, -1])
def test_a_torn_object_is_damaged(cut: int) -> None:
    with pytest.raises(DamagedTarget):
        decode_object(encode_object(made_stored())[:cut], KEY)


def test_an_object_under_another_key_is_damaged() -> None:
    with pytest.raises(DamagedTarget, match="another target"):
        decode_object(encode_object(made_stored(1)), KEY)
