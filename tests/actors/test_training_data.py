"""Training data: targets as the stages want them, and images whose bad members are replaced."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from actors.training_data import ImageData, TargetData, open_images
from geco_core.config.run import S3Config
from geco_core.errors import BadItem, ConfigError, Fatal, Reason, Retryable
from geco_core.imaging.framing import resize_foreground
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.types import Condition, Item
from infra.storage import LocalStorage
from infra.targets import TargetTable
from tests.support.tiny_chain import FOV, RENDER_SIZE, tiny_target, write_targets
from tests.support.tiny_models import TINY_PATCH_VIEWS


@pytest.fixture(scope="module")
def model() -> Zero123Plus:
    torch.manual_seed(0)
    return Zero123Plus(TINY_PATCH_VIEWS)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> TargetTable:
    storage = LocalStorage(tmp_path_factory.mktemp("targets"))
    write_targets(storage, [tiny_target(k, "weights") for k in range(3)])
    return TargetTable(storage)


def test_targets_come_back_as_they_were_stored(table: TargetTable, model: Zero123Plus) -> None:
    data = TargetData(table, model, pairs=True)
    assert (len(data), data.renders, data.render_size) == (3, 3, RENDER_SIZE)
    assert data.weights_digest == "weights"
    wanted = [tiny_target(k, "weights") for k in (2, 0)]
    rows, views = torch.tensor([2, 0]), torch.tensor([[1, 0], [2, 1]])
    images = data.images(rows)
    assert images.shape == (2, 3, 16, 16)
    assert torch.equal((images[0] * 255).round().to(torch.uint8),
                       torch.from_numpy(wanted[0].condition).movedim(-1, 0))  # fmt: skip
    pairs = data.pairs(rows)
    assert pairs is not None
    assert torch.equal(pairs.latents[1], torch.from_numpy(wanted[1].latents).float())
    assert torch.equal(pairs.z[0], wanted[0].z(model.latent_shape))
    batch = data.batch(rows, views)
    assert batch.renders.shape == (2, 2, 3, RENDER_SIZE, RENDER_SIZE)
    assert torch.equal(batch.z, pairs.z)
    assert batch.fov_deg == FOV
    for b, chosen in enumerate(views.tolist()):
        torch.testing.assert_close(batch.w2c[b], torch.from_numpy(wanted[b].w2c[chosen]))
        alpha = torch.from_numpy(wanted[b].renders[chosen][..., 3:]).movedim(-1, 1) / 255.0
        torch.testing.assert_close(batch.masks[b], alpha)
    assert float(batch.renders[:, :, :, 0, 0].min()) == 1.0  # white outside


def test_pairs_are_left_out_where_nobody_wants_them(table: TargetTable, model: Zero123Plus) -> None:
    assert TargetData(table, model, pairs=False).pairs(torch.tensor([0])) is None


def test_the_digest_is_of_the_items(tmp_path: Path, table: TargetTable, model: Zero123Plus) -> None:
    def digest(*indices: int) -> str:
        storage = LocalStorage(tmp_path / "-".join(map(str, indices)))
        write_targets(storage, [tiny_target(k, "weights") for k in indices])
        return TargetData(TargetTable(storage), model, pairs=False).digest

    assert digest(0, 1, 2) == TargetData(table, model, pairs=True).digest
    assert digest(0, 1) != digest(0, 1, 2) != digest(2, 1, 0)


class FewTargets:
    def __init__(self, count: int) -> None:
        self.keys = [f"{k:064x}" for k in range(count)]
        self.faults = 0

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, rows: Sequence[int], *, renders: Any = None, latents: bool = True) -> list[Any]:
        if self.faults:
            self.faults -= 1
            raise Retryable("the store blinked")
        return [tiny_target(row, "weights", renders=1) for row in rows]


def test_empty_and_foreign_targets_are_refused(model: Zero123Plus) -> None:
    with pytest.raises(Fatal, match="no teacher targets"):
        TargetData(FewTargets(0), model, pairs=False)
    torch.manual_seed(0)
    other = Zero123Plus(replace(TINY_PATCH_VIEWS, condition_size=32))
    with pytest.raises(ConfigError, match="16 pixels, the teacher reads 32"):
        TargetData(FewTargets(1), other, pairs=False)


def test_a_blinking_store_is_read_again(
    model: Zero123Plus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.retry.FIRST_DELAY_S", 0.0)
    few = FewTargets(2)
    data = TargetData(few, model, pairs=False)
    few.faults = 2
    assert data.images(torch.tensor([1])).shape == (1, 3, 16, 16)


class Framer:
    def prepare(self, item: Item) -> Condition:
        assert isinstance(item.image, bytes)
        if item.image == b"bad":
            raise BadItem("no image", reason=Reason.NOT_AN_IMAGE)
        rgba = np.asarray(Image.open(io.BytesIO(item.image)).convert("RGBA"))
        return Condition(item.item_id, resize_foreground(rgba, 0.85))


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (20, 20), (shade, 0, 0, 255)).save(buffer, "PNG")
    return buffer.getvalue()


def images(cells: list[bytes], model: Zero123Plus, **options: Any) -> tuple[ImageData, list[int]]:
    read: list[int] = []

    def item(row: int) -> Item:
        read.append(row)
        return Item(str(row), cells[row])

    return ImageData(item, len(cells), "d", Framer(), model, **options), read


def test_a_bad_image_is_replaced_by_the_next_good_one(model: Zero123Plus) -> None:
    data, _ = images([picture(50), b"bad", b"bad", picture(200)], model)
    made = data.images(torch.tensor([0, 1, 2, 3]))
    assert made.shape == (4, 3, 16, 16)
    assert torch.equal(made[1], made[3])
    assert torch.equal(made[2], made[3])
    assert not torch.equal(made[0], made[3])
    assert sorted(data.bad) == [1, 2]
    assert made[0, 0, 8, 8] == pytest.approx(50 / 255)
    assert made[0, :, 0, 0].min() > 0.85  # the teacher's white background


def test_the_last_row_wraps_around_and_all_bad_is_fatal(model: Zero123Plus) -> None:
    data, _ = images([picture(50), b"bad"], model)
    assert torch.equal(*data.images(torch.tensor([0, 1])))
    data, _ = images([b"bad", b"bad"], model)
    with pytest.raises(Fatal, match="none of the 2 images can be used, the first because no image"):
        data.images(torch.tensor([1]))


def test_framed_images_are_kept_up_to_the_limit(model: Zero123Plus) -> None:
    data, read = images([picture(k) for k in range(3)], model, cached_bytes=2 * 3 * 16 * 16)
    for row in (0, 1, 0, 2, 0, 1):
        data.images(torch.tensor([row]))
    assert read == [0, 1, 2, 1]


def test_a_manifest_of_paths_is_read(tmp_path: Path, model: Zero123Plus) -> None:
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(picture(60 * (k + 1)))
    cells = ["0.png", "1.png", "gone.png"]
    pq.write_table(pa.table({"id": ["a", "b", "c"], "image": cells}), tmp_path / "m.parquet")
    storage = LocalStorage(tmp_path / "stage")
    data = open_images(str(tmp_path / "m.parquet"), storage, Framer(), model, S3Config())
    assert len(data) == 3
    made = data.images(torch.tensor([0, 1, 2]))
    assert made[1, 0, 8, 8] == pytest.approx(120 / 255)
    assert torch.equal(made[2], made[0])
    assert list(data.bad) == [2]
