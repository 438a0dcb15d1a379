"""Converting good checkpoints: what comes out, what is recorded, and what the child may not see."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from geco_core.checkpoints import child, convert, launch
from geco_core.checkpoints.convert import ConvertOptions, digest_of, record_path
from geco_core.checkpoints.refusals import CheckpointError, Refusal
from geco_core.errors import ConfigError


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's work without a process: for files none of whose code runs."""
    monkeypatch.setattr(child, "_limit", lambda _: None)
    monkeypatch.setattr(launch, "start", lambda scratch, _: child.main(scratch))


@pytest.fixture
def lightning(tmp_path: Path) -> Path:
    path = tmp_path / "model.ckpt"
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"net.weight": weight, "net.tied": weight, "net.scale": torch.tensor(2.0).half()}
    torch.save({"state_dict": state, "epoch": 4}, path)
    return path


class Spy:
    """Unpickles by writing its process and environment to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        code = f"import os, json; open({str(self.path)!r}, 'a').write(json.dumps("
        return (exec, (code + "[os.getpid(), dict(os.environ), os.getcwd()]))",))


def test_a_lightning_checkpoint(lightning: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    record = convert.convert(lightning, out, ConvertOptions(key="state_dict"))
    found = load_file(out)
    assert found["net.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert torch.equal(found["net.tied"], found["net.weight"])
    assert record == json.loads(record_path(out).read_text())
    assert record == {
        "source": "model.ckpt",
        "source_sha256": digest_of(lightning),
        "source_format": "torch",
        "key": "state_dict",
        "tensors": 3,
        "bytes": 50,
        "dtypes": {"float16": 1, "float32": 2},
        "shared": 1,
        "dropped": ["epoch (int)"],
        "pickle_trusted": False,
        "torch": torch.__version__,
        "non_finite": {},
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
    }
    with safe_open(out, "pt") as reference:
        inside = json.loads(reference.metadata()[child.RECORD_KEY])
    assert inside == {k: v for k, v in record.items() if k not in ("non_finite", "sha256")}
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "model.ckpt",
        "model.safetensors",
        "model.safetensors.json",
    ]


@pytest.mark.usefixtures("here")
def test_the_same_file_gives_the_same_bytes(lightning: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    convert.convert(lightning, one, ConvertOptions())
    convert.convert(lightning, two, ConvertOptions())
    assert one.read_bytes() == two.read_bytes()
    assert record_path(one).read_bytes() == record_path(two).read_bytes()
    timed = convert.convert(lightning, two, ConvertOptions(converted_at="2026-01-01T00:00:00Z"))
    assert timed["converted_at"] == "2026-01-01T00:00:00Z"


@pytest.mark.usefixtures("here")
def test_old_files_and_safetensors_convert_too(tmp_path: Path) -> None:
    state = {"a": torch.arange(4), "b": torch.full((2,), float("nan"))}
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "new.safetensors")
    for name, kind in (("old.bin", "torch-legacy"), ("new.safetensors", "safetensors")):
        out = tmp_path / "out.safetensors"
        record = convert.convert(tmp_path / name, out, ConvertOptions())
        assert record["source_format"] == kind
        assert record["non_finite"] == {"b": 2}, "a note, not an error"
        assert load_file(out)["a"].tolist() == [0, 1, 2, 3]


def test_a_pickle_runs_with_the_flag_alone_and_in_the_child_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    source, marker, out = tmp_path / "x.pt", tmp_path / "ran", tmp_path / "x.safetensors"
    torch.save({"weight": torch.ones(2), "spy": Spy(marker)}, source)
    with pytest.raises(CheckpointError) as caught:
        convert.convert(source, out, ConvertOptions())
    assert caught.value.refusal is Refusal.PICKLE_REFUSED
    assert caught.value.remedy.endswith(f"geco convert {source} --out {out} --i-trust-this-file")
    assert not marker.exists()
    assert not out.exists()
    record = convert.convert(source, out, ConvertOptions(trusted=True))
    pid, environment, folder = json.loads(marker.read_text())
    assert pid != os.getpid()
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert Path(folder).parent == tmp_path
    assert not Path(folder).exists()
    assert record["pickle_trusted"] is True
    assert record["dropped"] == ["spy (NoneType)"]
    assert load_file(out)["weight"].tolist() == [1, 1]


@pytest.mark.usefixtures("here")
def test_the_flag_alone_does_not_run_a_harmless_file(lightning: Path, tmp_path: Path) -> None:
    record = convert.convert(lightning, tmp_path / "x.safetensors", ConvertOptions(trusted=True))
    assert record["pickle_trusted"] is False


@pytest.mark.usefixtures("here")
def test_a_source_that_changes_meanwhile_is_refused(
    lightning: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(scratch: Path, _: float) -> int:
        code = child.main(scratch)
        with lightning.open("ab") as stream:
            stream.write(b"x")
        return code

    monkeypatch.setattr(launch, "start", start)
    with pytest.raises(CheckpointError) as caught:
        convert.convert(lightning, tmp_path / "x.safetensors", ConvertOptions())
    assert caught.value.refusal is Refusal.CHANGED
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("where", ["parent", "child"])
def test_a_full_disk_is_told(
    lightning: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "parent":
        monkeypatch.setattr(convert.tempfile, "mkdtemp", full)
    else:
        monkeypatch.setattr(child, "write_safetensors", full)
    with pytest.raises(CheckpointError) as caught:
        convert.convert(lightning, tmp_path / "x.safetensors", ConvertOptions())
    assert caught.value.refusal is Refusal.NOT_WRITTEN
    assert "No space left" in caught.value.message


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "lie",
    [
        lambda _: "no json",
        lambda _: "[]",
        lambda _: '{"tensors": 3}',
        lambda _: '{"refusal": "because", "message": "", "remedy": ""}',
        lambda truth: json.dumps(truth | {"tensors": 2}),
        lambda truth: json.dumps(truth | {"dropped": None}),
    ],
)
def test_a_child_that_lies_is_not_believed(
    lightning: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lie: Callable[[dict[str, object]], str],
) -> None:
    def start(scratch: Path, _: float) -> int:
        child.main(scratch)
        truth = json.loads((scratch / child.RESULT).read_text())
        (scratch / child.RESULT).write_text(lie(truth))
        return 0

    monkeypatch.setattr(launch, "start", start)
    with pytest.raises(CheckpointError) as caught:
        convert.convert(lightning, tmp_path / "x.safetensors", ConvertOptions())
    assert caught.value.refusal is Refusal.CRASHED
    assert not (tmp_path / "x.safetensors").exists()


def test_bad_outputs_and_limits_are_refused_first(lightning: Path, tmp_path: Path) -> None:
    for out in ("x.bin", "absent/x.safetensors", "."):
        with pytest.raises(ConfigError):
            convert.convert(lightning, tmp_path / out, ConvertOptions())
    same = tmp_path / "same.safetensors"
    save_file({"a": torch.ones(1)}, same)
    with pytest.raises(ConfigError):
        convert.convert(same, same, ConvertOptions())
    for options in ({"memory_mb": 0}, {"timeout_s": 0.0}):
        with pytest.raises(ConfigError):
            ConvertOptions(**options)
