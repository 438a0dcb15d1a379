"""What a checkpoint file is, decided from its name and its first and last bytes.

Nothing here unpickles. An archive's directory is checked before anything of it is read: torch
stores its records uncompressed, so an archive that grows when read, or whose records overlap, is
a bomb or no checkpoint.
"""

from __future__ import annotations

import stat
import zipfile
from enum import StrEnum
from pathlib import Path

from geco_core.checkpoints.refusals import CheckpointError, Refusal

MAX_PICKLE_BYTES = 256 << 20
MAX_DIRECTORY_BYTES = 64 << 20
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
# The number torch pickles first, in its old format, as the pickle writes it.
_TORCH_NUMBER = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
_DOWNLOAD_AGAIN = "download the file again and compare its size and digest with the publisher's"
# First bytes of files that are taken for checkpoints -> what they are, what to do.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "fetch the file with `git lfs pull` or from the publisher's download page",
    ),
    (b"<", "a web page or XML", "open the address in a browser: it may ask to log in first"),
    (b"\x89HDF", "HDF5", "convert it with the library that wrote it"),
    (b"GGUF", "GGUF", "take the publisher's safetensors file"),
    (b"\x1f\x8b", "gzip", "unpack it first"),
    (b"BZh", "bzip2", "unpack it first"),
    (b"7z\xbc\xaf", "7-Zip", "unpack it first"),
    (b"(\xb5/\xfd", "Zstandard", "unpack it first"),
    (b"\x93NUMPY", "a NumPy array", "save a dict of tensors with safetensors"),
    (b"{", "JSON, such as an index of shards", "give one of the files it names"),
)


class Kind(StrEnum):
    """Formats that can hold tensors."""

    SAFETENSORS = "safetensors"
    ZIP = "torch"
    PICKLE = "torch-legacy"


def inspect(path: Path, *, max_bytes: int) -> Kind:
    """Decide what the file is.

    Args:
        path: a regular file; links are refused, because what they point to may change.
        max_bytes: larger files are refused.

    Raises:
        CheckpointError: not a plain file, too large, or nothing that holds tensors.
    """
    size = _regular_size(path)
    if size == 0:
        raise CheckpointError(
            f"{path.name} is empty", refusal=Refusal.EMPTY, remedy=_DOWNLOAD_AGAIN
        )
    if size > max_bytes:
        raise CheckpointError(
            f"{path.name} has {size:,} bytes, the limit is {max_bytes:,}",
            refusal=Refusal.TOO_LARGE,
            remedy="convert it where there is room, with a higher limit",
        )
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(_ZIP):
        check_archive(path)
        return Kind.ZIP
    if len(head) > 8 and head[8:9] == b"{":
        return Kind.SAFETENSORS
    if head.startswith(_PICKLE) and _TORCH_NUMBER in head[:32]:
        return Kind.PICKLE
    raise _not_a_checkpoint(path, head)


def check_archive(path: Path) -> None:
    """Check the directory of a torch archive.

    Raises:
        CheckpointError: corrupt, a bomb, or a zip file of another kind.
    """
    size = path.stat().st_size
    members = _members(path)
    names = [info.filename.partition("/")[2] for info in members]
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        raise CheckpointError(
            f"{path.name} is a TorchScript archive: a program, not only weights",
            refusal=Refusal.UNSUPPORTED,
            remedy="save `module.state_dict()` where the model was made",
        )
    if names.count("data.pkl") != 1:
        raise CheckpointError(
            f"{path.name} is a zip file, but torch did not write it",
            refusal=Refusal.NOT_A_CHECKPOINT,
            remedy="unpack it if it is an archive of checkpoints",
        )
    for info in members:
        _check_member(path, info)
    stored = sum(info.compress_size for info in members)
    pickled = next(i.file_size for i, n in zip(members, names, strict=True) if n == "data.pkl")
    if stored > size or pickled > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"{path.name} would unpack to {stored:,} bytes of records and {pickled:,} of pickle",
            refusal=Refusal.BOMB,
            remedy="do not use this file; ask its publisher",
        )


def verify_records(path: Path) -> None:
    """Read every record of a checked archive and compare its checksum (torch itself does not).

    Raises:
        CheckpointError: a record is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if not any(info.CRC for info in members):
                return  # torch was told to write no checksums
            for info in members:
                with archive.open(info) as stream:
                    while stream.read(1 << 22):
                        pass
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise corrupt(path, str(error)) from error


def corrupt(path: Path, why: str) -> CheckpointError:
    """The error of a damaged file."""
    return CheckpointError(
        f"{path.name} is damaged or truncated: {why[:160]}",
        refusal=Refusal.CORRUPT,
        remedy=_DOWNLOAD_AGAIN,
    )


def _regular_size(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError as error:
        raise CheckpointError(
            f"there is no file {path}", refusal=Refusal.NOT_FOUND, remedy="check the path"
        ) from error
    if stat.S_ISLNK(found.st_mode):
        raise CheckpointError(
            f"{path} is a symbolic link",
            refusal=Refusal.SYMLINK,
            remedy=f"give the file it points to: {path.resolve()}",
        )
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(
            f"{path} is not a file",
            refusal=Refusal.NOT_A_FILE,
            remedy="give one checkpoint file, not a folder of them",
        )
    return found.st_size


def _members(path: Path) -> list[zipfile.ZipInfo]:
    """Directory of the archive, after its own size is known to be reasonable."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 65_558))
        tail = stream.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise corrupt(path, "the directory of the archive is missing")
    directory = int.from_bytes(tail[end + 12 : end + 16], "little")
    wide = tail.rfind(b"PK\x06\x06", 0, end)
    if directory == 0xFFFFFFFF and wide >= 0:
        directory = int.from_bytes(tail[wide + 40 : wide + 48], "little")
    if directory > MAX_DIRECTORY_BYTES:
        raise CheckpointError(
            f"the directory of {path.name} claims {directory:,} bytes",
            refusal=Refusal.BOMB,
            remedy="do not use this file; ask its publisher",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise corrupt(path, str(error)) from error


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise CheckpointError(
            f"{path.name} holds the compressed record {info.filename[:80]!r} "
            f"({info.compress_size:,} to {info.file_size:,} bytes); torch never compresses",
            refusal=Refusal.BOMB,
            remedy="do not use this file; ask its publisher",
        )
    if info.flag_bits & 0x1:
        raise CheckpointError(
            f"{path.name} is encrypted",
            refusal=Refusal.UNSUPPORTED,
            remedy="decrypt it first",
        )


def _not_a_checkpoint(path: Path, head: bytes) -> CheckpointError:
    what, remedy = "of no known format", "give a .safetensors, .ckpt, .pt, .pth or .bin file"
    if len(head) > 262 and head[257:262] == b"ustar":
        what, remedy = "a tar archive", "unpack it first"
    if head.startswith(_PICKLE):
        what, remedy = "a pickle that torch did not write", "save a dict of tensors with torch.save"
    for magic, name, advice in _OTHERS:
        if head.lstrip().startswith(magic):
            what, remedy = name, advice
            break
    return CheckpointError(
        f"{path.name} is not a checkpoint: it is {what}",
        refusal=Refusal.NOT_A_CHECKPOINT,
        remedy=remedy,
    )
