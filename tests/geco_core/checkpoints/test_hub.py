"""References to weights: files, folders, the hub's cache, and what others resolve."""

from __future__ import annotations

from pathlib import Path

import pytest

from geco_core.checkpoints import hub
from geco_core.checkpoints.hub import HubReference, find_file, find_optional, hub_reference
from geco_core.errors import Fatal

COMMIT = "a" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with one file of one repository, laid out as the library lays it out."""
    root = tmp_path / "cache"
    folder = root / "models--sudo-ai--zero123plus-v1.2"
    blob = folder / "blobs" / "123"
    link = folder / "snapshots" / COMMIT / "unet" / "model.safetensors"
    for path in (blob, link, folder / "refs" / "main"):
        path.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    link.symlink_to(blob)
    (folder / "refs" / "main").write_text(COMMIT)
    lookup = hub.try_to_load_from_cache
    monkeypatch.setattr(
        hub,
        "try_to_load_from_cache",
        lambda *a, **k: lookup(*a, cache_dir=root, **k),
    )
    return link


@pytest.mark.parametrize(
    "reference",
    [
        "sudo-ai/zero123plus-v1.2",
        "hf://sudo-ai/zero123plus-v1.2",
        f"hf://sudo-ai/zero123plus-v1.2@{COMMIT}",
        "hf://sudo-ai/zero123plus-v1.2/unet/model.safetensors",
        "hf://sudo-ai/zero123plus-v1.2@main/unet/model.safetensors",
    ],
)
def test_cached_files_are_found(cache: Path, reference: str) -> None:
    assert find_file(reference, ["unet/other.bin", "unet/model.safetensors"]) == cache


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("reference", "command"),
    [
        ("TencentARC/InstantMesh", "hf download TencentARC/InstantMesh a.ckpt "),
        ("hf://o/n@v2/d/b.bin", "hf download o/n d/b.bin --revision v2 --local-dir weights/n`"),
        ("sudo-ai/zero123plus-v1.2", "--local-dir weights/zero123plus-v1.2`"),
    ],
)
def test_what_is_not_cached_gets_the_command(reference: str, command: str) -> None:
    with pytest.raises(Fatal) as caught:
        find_file(reference, ["a.ckpt", "c.ckpt"])
    assert command in caught.value.remedy
    assert find_optional(reference, ["a.ckpt"]) is None


def test_paths_win_over_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_reference("owner/name") == HubReference("owner/name")
    Path("owner/name").mkdir(parents=True)
    assert hub_reference("owner/name") is None
    for path in ("./owner/name", "/owner/name", "~/x", "file.ckpt", "a/b/c"):
        assert hub_reference(path) is None


def test_local_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_bytes(b"x")
    assert find_file(str(tmp_path / "b.bin"), ["a.bin"]) == tmp_path / "b.bin"
    assert find_file(str(tmp_path), ["a.bin", "b.bin"]) == tmp_path / "b.bin"
    assert find_file("package:instantmesh-micro-multiview.safetensors", []).is_file()
    for reference in (str(tmp_path), str(tmp_path / "absent"), "package:absent", ""):
        with pytest.raises(Fatal) as caught:
            find_file(reference, ["a.bin"])
        assert caught.value.remedy


def test_stores_are_someone_elses(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    asked = []

    def resolver(reference: str) -> str:
        asked.append(reference)
        return str(tmp_path)

    assert find_file("s3://bucket/weights", ["a.bin"], resolver) == tmp_path / "a.bin"
    assert asked == ["s3://bucket/weights"]
    with pytest.raises(Fatal, match="can not be read here"):
        find_file("s3://bucket/weights", ["a.bin"])
    with pytest.raises(Fatal, match="does not name a repository"):
        find_file("hf://only", ["a.bin"])


def test_links_may_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    folder, secret = tmp_path / "published", tmp_path / "secret.bin"
    (folder / "unet").mkdir(parents=True)
    secret.write_bytes(b"x")
    (folder / "unet" / "a.bin").symlink_to(secret)
    with pytest.raises(Fatal, match=r"is a link to .*secret\.bin, outside"):
        find_file(str(folder), ["unet/a.bin"])
    (folder / "real.bin").write_bytes(b"x")
    (folder / "b.bin").symlink_to("real.bin")
    assert find_file(str(folder), ["b.bin"]) == folder / "b.bin"
    (tmp_path / "link").symlink_to(folder)
    assert find_file(str(tmp_path / "link"), ["b.bin"]).name == "b.bin"


def test_a_snapshot_of_the_cache_is_a_folder_too(cache: Path) -> None:
    snapshot = cache.parent.parent
    assert find_file(str(snapshot), ["unet/model.safetensors"]) == cache


@pytest.mark.usefixtures("cache")
def test_the_command_asks_for_the_published_name() -> None:
    with pytest.raises(Fatal) as caught:
        find_file("TencentARC/InstantMesh", ["a.safetensors", "a.ckpt"], published="a.ckpt")
    assert "hf download TencentARC/InstantMesh a.ckpt --local-dir" in caught.value.remedy
