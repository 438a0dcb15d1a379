"""The layout of CRM's data: what is written comes back, and nothing in it is trusted."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.errors import BadItem, Fatal, Reason
from geco_core.training.crm_folder import CrmFolder, Entry
from geco_core.training.crm_folder_writer import png
from tests.support.tiny_training import SIDE, Memory, objects

ENTRY = Entry("train-000000", "x")


@pytest.fixture(scope="module")
def files() -> Memory:
    return objects(3)


def changed(files: Memory, **names: bytes | None) -> Memory:
    """A copy in which files of the first object are others, or gone."""
    copy = Memory(files)
    for name, data in names.items():
        key = f"train-000000/{name}.png"
        copy.pop(key)
        if data is not None:
            copy[key] = data
    return copy


def test_written_objects_come_back(files: Memory) -> None:
    folder = CrmFolder(files)
    assert [e.item_id for e in folder.train] == [f"train-00000{k}" for k in range(3)]
    assert all(entry.caption for entry in folder.train)
    assert not folder.heldout
    made = folder.read(folder.train[1])
    assert made.ccms is not None
    assert (made.views.shape, made.ccms.shape) == ((6, SIDE, SIDE, 4), (6, SIDE, SIDE, 3))
    empty = made.views[..., 3] == 0
    assert empty.any()
    assert (made.views[empty] == 0).all()
    assert (made.ccms[empty] == 127).all()


def test_coordinate_maps_say_where_their_pixels_are(files: Memory) -> None:
    made = CrmFolder(files).read(ENTRY)
    assert made.ccms is not None
    centres = (np.arange(SIDE) + 0.5) / SIDE * 2.0 - 1.0
    front = made.ccms[0].astype(float) / 255.0 * 2.0 - 1.0
    solid = made.views[0, ..., 3] == 255
    row, column = np.nonzero(solid)
    assert len(row) > 20
    # front: x = -column, z = -row (the table of CRM's axes)
    assert np.abs(front[row, column, 0] + centres[column]).max() < 0.03
    assert np.abs(front[row, column, 2] + centres[row]).max() < 0.03


def test_the_first_objects_are_held_out_where_there_are_more(files: Memory) -> None:
    folder = CrmFolder(files, heldout=2)
    assert [e.item_id for e in folder.heldout] == ["train-000000", "train-000001"]
    assert [e.item_id for e in folder.train] == ["train-000002"]
    assert not CrmFolder(files, heldout=3).heldout
    assert CrmFolder(files, heldout=2).digest != CrmFolder(files).digest


def test_folders_are_the_objects_where_there_is_no_index(files: Memory) -> None:
    bare = Memory({k: v for k, v in files.items() if k != "caption.csv"})
    entries = CrmFolder(bare).train
    assert [e.item_id for e in entries] == [e.item_id for e in CrmFolder(files).train]
    assert {e.caption for e in entries} == {""}


@pytest.mark.parametrize(
    ("index", "match"),
    [
        (b"id,caption\n../secret,x\n", "no folder name"),
        (b"id,caption\na/b,x\n", "no folder name"),
        (b"a,x\na,y\n", "twice"),
        (b"\xff\xfe\x00a", "no UTF-8 CSV"),
        (b"id,caption\n", "no objects"),
    ],
)
def test_a_bad_index_is_refused(index: bytes, match: str) -> None:
    with pytest.raises(Fatal, match=match):
        CrmFolder(Memory({"caption.csv": index}))


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(Fatal, match="no objects"):
        CrmFolder(Memory())


def test_bad_objects_are_named(files: Memory) -> None:
    small = png(np.zeros((SIDE // 2, SIDE // 2, 4), np.uint8))
    huge = png(np.zeros((SIDE * 4, SIDE * 4, 4), np.uint8))
    for broken, reason in (
        (changed(files, **{"003": None}), Reason.NOT_FOUND),
        (changed(files, **{"003": b"GIF89a, or so it says"}), Reason.CORRUPT_IMAGE),
        (changed(files, xyz_new_003=small), Reason.CORRUPT_IMAGE),
        (changed(files, **{"003": huge}), Reason.IMAGE_TOO_LARGE),
    ):
        with pytest.raises(BadItem) as caught:
            CrmFolder(broken, max_side=2 * SIDE).read(ENTRY)
        assert caught.value.reason is reason
        assert caught.value.item_id == ENTRY.item_id


def test_a_bad_object_is_replaced_by_the_next(files: Memory) -> None:
    folder = CrmFolder(changed(files, **{"000": b"no picture"}))
    made = folder.usable(0, folder.read)
    assert made.item_id == "train-000001"
    assert list(folder.bad) == ["train-000000"]
    with pytest.raises(Fatal, match="none of 3 objects can be read"):
        folder.usable(0, lambda entry: folder.read(Entry("absent")) and None)
