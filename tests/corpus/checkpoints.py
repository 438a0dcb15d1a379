"""Bad checkpoints, made by script, each with the refusal it must end in.

Those that only unpickling finds say `reads=True`; those that run code of the file are `trusted`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import signal
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from geco_core.checkpoints.refusals import Refusal

STATE = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.ones(3)}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A bad checkpoint.

    Attributes:
        name: unique in the corpus.
        make: writes it below an empty folder and returns its path.
        refusal: it ends in.
        text: a fragment of the message, so that it says what is wrong.
        options: of `ConvertOptions`.
        reads: the file passes every check of bytes and is refused by the process that reads it.
    """

    name: str
    make: Callable[[Path], Path]
    refusal: Refusal
    text: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    reads: bool = False


class Call:
    """Unpickles by calling a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def torch_bytes(state: object, *, archive: bool = True) -> bytes:
    """What torch.save writes."""
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=archive)
    return stream.getvalue()


def raw(data: bytes, name: str = "model.ckpt") -> Callable[[Path], Path]:
    """A file of these bytes."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return make


def saved(state: Callable[[], object], *, archive: bool = True) -> Callable[[Path], Path]:
    """A file torch.save wrote."""

    def make(folder: Path) -> Path:
        return raw(torch_bytes(state(), archive=archive))(folder)

    return make


def header(
    fields: object, data: bytes = b"", *, length: int | None = None
) -> Callable[[Path], Path]:
    """A safetensors file with this header; texts go in as they are."""
    text = fields.encode() if isinstance(fields, str) else json.dumps(fields).encode()
    size = len(text) if length is None else length
    return raw(struct.pack("<Q", size) + text + data, "model.safetensors")


def tensor(begin: int, end: int, shape: object = None, dtype: str = "F32") -> dict[str, object]:
    """One entry of a header."""
    count = (end - begin) // 4
    return {
        "dtype": dtype,
        "shape": [count] if shape is None else shape,
        "data_offsets": [begin, end],
    }


def rezipped(edit: Callable[[str, bytes], bytes | None], method: int = zipfile.ZIP_STORED) -> Any:
    """A torch archive with edited records; None leaves one out."""

    def make(folder: Path) -> Path:
        path = folder / "model.pt"
        with (
            zipfile.ZipFile(io.BytesIO(torch_bytes(STATE))) as source,
            zipfile.ZipFile(path, "w", method) as target,
        ):
            for info in source.infolist():
                changed = edit(info.filename, source.read(info))
                if changed is not None:
                    target.writestr(info.filename, changed)
        return path

    return make


def record(change: Callable[[bytes], bytes | None]) -> Callable[[str, bytes], bytes | None]:
    """Edit the first tensor's record."""
    return lambda name, data: change(data) if name.endswith("data/0") else data


def flipped(folder: Path) -> Path:
    """One byte of a tensor is another."""
    data = bytearray(torch_bytes(STATE))
    data[data.find(STATE["weight"].numpy().tobytes()) + 5] ^= 0xFF
    return raw(bytes(data))(folder)


def overlapping_records(folder: Path) -> Path:
    """A thousand directory entries for the same bytes."""
    path = rezipped(record(lambda _: bytes(100_000)))(folder)
    with zipfile.ZipFile(path, "a") as archive:
        first = next(i for i in archive.infolist() if i.filename.endswith("data/0"))
        for number in range(1000):
            copy = zipfile.ZipInfo(f"archive/data/x{number}")
            copy.header_offset, copy.CRC = first.header_offset, first.CRC
            copy.file_size = copy.compress_size = first.file_size
            archive.filelist.append(copy)
        archive._didModify = True
    return path


def claimed_directory(folder: Path) -> Path:
    """The end record claims a directory of 1 GiB."""
    data = bytearray(torch_bytes(STATE))
    end = data.rfind(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<I", 1 << 30)
    return raw(bytes(data))(folder)


def encrypted(folder: Path) -> Path:
    """Every record is marked as encrypted."""
    data = bytearray(torch_bytes(STATE))
    position = data.find(b"PK\x01\x02")
    while position >= 0:
        data[position + 8] |= 1
        position = data.find(b"PK\x01\x02", position + 4)
    return raw(bytes(data))(folder)


def script(folder: Path) -> Path:
    """A TorchScript archive, as far as its names go."""
    path = folder / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"m/{name}", b"x")
    return path


def tarred(folder: Path) -> Path:
    """A tar archive holding a checkpoint."""
    inner = raw(torch_bytes(STATE))(folder)
    with tarfile.open(folder / "model.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(inner, "model.ckpt")
    return folder / "model.tar"


def npz(folder: Path) -> Path:
    """NumPy's zip."""
    np.savez(folder / "model.npz", weight=np.ones(3))
    return folder / "model.npz"


def link(folder: Path) -> Path:
    """A symbolic link to a good checkpoint."""
    raw(torch_bytes(STATE), "real.ckpt")(folder)
    (folder / "model.ckpt").symlink_to(folder / "real.ckpt")
    return folder / "model.ckpt"


def pipe(folder: Path) -> Path:
    """A named pipe, which would block a reader for ever."""
    os.mkfifo(folder / "model.ckpt")
    return folder / "model.ckpt"


def sparse_giant(folder: Path) -> Path:
    """100 GiB of nothing."""
    path = folder / "model.ckpt"
    with path.open("wb") as stream:
        stream.truncate(100 << 30)
    return path


def laughs() -> object:
    """Ten lists of ten references each, ten levels deep: 10^10 entries in a few bytes."""
    level: list[Any] = [1]
    for _ in range(10):
        level = [level] * 10
    return level


def deep() -> object:
    """A map in a map in a map ..."""
    level: dict[str, Any] = {"weight": torch.ones(1)}
    for _ in range(60):
        level = {"a": level}
    return level


def trusting(call: Call, **options: Any) -> dict[str, Any]:
    """Fields of a case whose own code runs."""
    return {
        "make": saved(lambda: {"state_dict": STATE, "x": call}),
        "options": {"trusted": True, **options},
        "reads": True,
    }


R = Refusal
SOLID = save(STATE)
FILES: list[Checkpoint] = [
    Checkpoint(name="missing", make=lambda f: f / "absent.ckpt", refusal=R.NOT_FOUND),
    Checkpoint(name="folder", make=lambda f: f, refusal=R.NOT_A_FILE),
    Checkpoint(name="symbolic link", make=link, refusal=R.SYMLINK, text="symbolic"),
    Checkpoint(name="named pipe", make=pipe, refusal=R.NOT_A_FILE),
    Checkpoint(name="empty", make=raw(b""), refusal=R.EMPTY),
    Checkpoint(name="100 GiB", make=sparse_giant, refusal=R.TOO_LARGE, text="limit"),
    Checkpoint(
        name="another digest",
        make=saved(lambda: STATE),
        refusal=R.WRONG_DIGEST,
        options={"sha256": "0" * 64},
    ),
]
FORMATS: list[Checkpoint] = [
    Checkpoint(name=name, make=make, refusal=R.NOT_A_CHECKPOINT, text=text)
    for name, make, text in (
        ("web page", raw(b"<!DOCTYPE html><html>log in</html>"), "web page"),
        ("LFS pointer", raw(b"version https://git-lfs.github.com/spec/v1\noid"), "LFS"),
        ("shard index", raw(b'{"metadata": {}, "weight_map": {}}'), "JSON"),
        ("gzip", raw(gzip.compress(torch_bytes(STATE))), "gzip"),
        ("tar", tarred, "tar"),
        ("HDF5", raw(b"\x89HDF\r\n\x1a\n" + bytes(64)), "HDF5"),
        ("GGUF", raw(b"GGUF" + bytes(64)), "GGUF"),
        ("NumPy array", raw(b"\x93NUMPY\x01\x00" + bytes(64)), "NumPy"),
        ("NumPy zip", npz, "torch did not write it"),
        ("plain pickle", raw(pickle.dumps({"a": 1})), "a pickle that torch did not write"),
        ("pickle that runs a command", raw(pickle.dumps(Call(os.system, "echo harm"))), "pickle"),
        ("pickle of noise", raw(b"\x80\x02" + bytes(range(200))), "a pickle"),
        ("text", raw(b"weights, see below"), "no known format"),
        ("zeros", raw(bytes(4096)), "no known format"),
        ("one byte", raw(b"P"), "no known format"),
    )
]
ARCHIVES: list[Checkpoint] = [
    Checkpoint(
        name="half an archive",
        make=raw(torch_bytes(STATE)[:600]),
        refusal=R.CORRUPT,
        text="directory",
    ),
    Checkpoint(name="flipped byte", make=flipped, refusal=R.CORRUPT, text="CRC"),
    Checkpoint(
        name="compressed records",
        make=rezipped(lambda _, data: data, zipfile.ZIP_DEFLATED),
        refusal=R.BOMB,
        text="compressed",
    ),
    Checkpoint(
        name="zip bomb",
        make=rezipped(record(lambda _: bytes(1 << 26)), zipfile.ZIP_DEFLATED),
        refusal=R.BOMB,
        text="compressed",
    ),
    Checkpoint(name="overlapping records", make=overlapping_records, refusal=R.BOMB),
    Checkpoint(name="claimed directory", make=claimed_directory, refusal=R.BOMB),
    Checkpoint(name="encrypted", make=encrypted, refusal=R.UNSUPPORTED, text="encrypted"),
    Checkpoint(name="TorchScript", make=script, refusal=R.UNSUPPORTED, text="TorchScript"),
]
SAFETENSORS: list[Checkpoint] = [
    Checkpoint(
        name="safetensors: half its data",
        make=raw(SOLID[:-8]),
        refusal=R.CORRUPT,
        text="truncated",
    ),
    Checkpoint(
        name="safetensors: half its header",
        make=raw(SOLID[:60]),
        refusal=R.CORRUPT,
        text="inside its header",
    ),
    *(
        Checkpoint(name=f"safetensors: {name}", make=make, refusal=R.BAD_HEADER, text=text)
        for name, make, text in (
            ("huge header", header("{}", length=1 << 60), "claims"),
            ("no JSON", header('{"weight": '), "not JSON"),
            ("nested without end", header('{"a":' + "[" * 100_000), "not JSON"),
            ("no UTF-8", raw(struct.pack("<Q", 4) + b'{"\xff\xff'), "not JSON"),
            ("one name twice", header('{"a":{},"a":{}}'), "twice"),
            ("overlap", header({"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)), "overlaps"),
            ("hole", header({"a": tensor(0, 8), "b": tensor(12, 16)}, bytes(16)), "hole"),
            ("bytes after the end", header({"a": tensor(0, 8)}, bytes(12)), "follow the last"),
            ("unknown dtype", header({"a": tensor(0, 8, [2], "F12")}, bytes(8)), "F12"),
            ("wrong shape", header({"a": tensor(0, 8, [3])}, bytes(8)), "bytes of data"),
            ("negative shape", header({"a": tensor(0, 8, [-2])}, bytes(8)), "whole numbers"),
            ("fractions", header({"a": tensor(0, 8, [2.0])}, bytes(8)), "whole numbers"),
            ("backwards", header({"a": tensor(8, 0, [0])}, bytes(8)), "bytes of data"),
            ("odd metadata", header({"__metadata__": {"a": 1}}), "__metadata__"),
            ("incomplete entry", header({"a": {"dtype": "F32"}}), "lacks"),
        )
    ),
    Checkpoint(name="safetensors: no tensors", make=header({}), refusal=R.NO_TENSORS, reads=True),
]
PICKLES: list[Checkpoint] = [
    Checkpoint(name=name, make=make, refusal=refusal, text=text, reads=True)
    for name, make, refusal, text in (
        (
            "runs a command",
            saved(lambda: {"a": Call(os.system, "echo harm")}),
            R.PICKLE_REFUSED,
            ".system",
        ),
        (
            "runs a command, old format",
            saved(lambda: {"a": Call(os.system, "echo harm")}, archive=False),
            R.PICKLE_REFUSED,
            ".system",
        ),
        (
            "whole module",
            saved(lambda: torch.nn.Linear(2, 2)),
            R.PICKLE_REFUSED,
            "torch.nn.modules.linear.Linear",
        ),
        (
            "NumPy arrays inside",
            saved(lambda: {"a": np.ones(3)}),
            R.PICKLE_REFUSED,
            "numpy",
        ),
        (
            "half an old file",
            raw(torch_bytes(STATE, archive=False)[:-20]),
            R.CORRUPT,
            "damaged",
        ),
        (
            "old format and then noise",
            raw(torch_bytes(STATE, archive=False)[:60] + bytes(range(200))),
            R.CORRUPT,
            "damaged",
        ),
        ("missing record", rezipped(record(lambda _: None)), R.CORRUPT, "damaged"),
        ("short record", rezipped(record(lambda data: data[:4])), R.CORRUPT, "record size"),
        (
            "broken pickle inside",
            rezipped(lambda name, data: data[:40] if name.endswith("data.pkl") else data),
            R.CORRUPT,
            "damaged",
        ),
        ("no tensors", saved(lambda: {"epoch": 3}), R.NO_TENSORS, "no tensors"),
        (
            "two of one name",
            saved(lambda: {"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}),
            R.AMBIGUOUS,
            "a.b",
        ),
        (
            "sparse tensor",
            saved(lambda: {"a": torch.eye(3).to_sparse()}),
            R.UNSUPPORTED,
            "sparse",
        ),
        (
            "tensor without values",
            saved(lambda: {"a": torch.ones(3, device="meta")}),
            R.UNSUPPORTED,
            "meta",
        ),
        (
            "complex doubles",
            saved(lambda: {"a": torch.ones(3, dtype=torch.complex128)}),
            R.UNSUPPORTED,
            "complex128",
        ),
        (
            "a terabyte in a view",
            saved(lambda: {"a": torch.zeros(1).expand(1 << 38)}),
            R.BOMB,
            "would become",
        ),
        ("ten to the ten references", saved(laughs), R.BOMB, "entries"),
        ("sixty levels", saved(deep), R.BOMB, "nests"),
    )
] + [
    Checkpoint(
        name="no such branch",
        make=saved(lambda: {"state_dict": STATE}),
        refusal=R.NO_TENSORS,
        text="'model'",
        options={"key": "model"},
        reads=True,
    )
]
TRUSTED: list[Checkpoint] = [
    Checkpoint(name=name, refusal=refusal, text=text, **fields)
    for name, refusal, text, fields in (
        ("leaves at once", R.CRASHED, "exit status 7", trusting(Call(os._exit, 7))),
        ("segfaults", R.CRASHED, "SIGSEGV", trusting(Call(signal.raise_signal, signal.SIGSEGV))),
        ("is killed", R.OUT_OF_MEMORY, "", trusting(Call(signal.raise_signal, signal.SIGKILL))),
        (
            "takes memory",
            R.OUT_OF_MEMORY,
            "memory",
            trusting(Call(bytearray, 1 << 32), memory_mb=512),
        ),
        ("sleeps", R.TIMED_OUT, "longer than 4", trusting(Call(time.sleep, 60), timeout_s=4.0)),
        ("raises", R.CORRUPT, "ValueError", trusting(Call(int, "no number"))),
    )
]
CASES = [*FILES, *FORMATS, *ARCHIVES, *SAFETENSORS, *PICKLES, *TRUSTED]
