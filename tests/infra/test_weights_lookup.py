"""What an `s3://` reference of weights stands for, without downloading it."""

from __future__ import annotations

import pytest

from geco_core.errors import ConfigError, Fatal
from infra import weights_lookup
from infra.storage.objects import StoredObject
from infra.storage.s3 import S3Storage
from infra.weights_lookup import StoredWeights, look_up

GROUPS = (("unet/a.safetensors", "unet/a.bin"), ("unet/config.json",), ("index.json",))


def put(store: S3Storage, *names: str) -> None:
    for name in names:
        store.put_atomic(f"w/{name}", name.encode())


def test_a_key_is_a_file_and_what_lies_below_it_a_folder(moto_store: S3Storage) -> None:
    put(moto_store, "unet/a.bin", "unet/a.safetensors", "index.json", "huge.ckpt")
    found = look_up(f"{moto_store.uri}/w", moto_store.config, GROUPS)
    assert found.folder
    assert list(found.objects) == ["index.json", "unet/a.safetensors"]
    assert found.bytes == len("index.json") + len("unet/a.safetensors")
    assert look_up(f"{moto_store.uri}/w/", moto_store.config, GROUPS) == StoredWeights(
        f"{moto_store.uri}/w/", found.bucket, True, found.objects
    )
    everything = look_up(f"{moto_store.uri}/w", moto_store.config)
    assert len(everything.objects) == 4
    single = look_up(f"{moto_store.uri}/w/huge.ckpt", moto_store.config, GROUPS)
    assert not single.folder
    assert list(single.objects) == ["huge.ckpt"]


def test_an_index_brings_its_shards(moto_store: S3Storage) -> None:
    put(
        moto_store, "t/m.safetensors.index.json", "t/m-1-of-2.safetensors", "t/m-2-of-2.safetensors"
    )
    put(moto_store, "t/m-old/x.safetensors", "t/n-1-of-2.safetensors", "t/m-1-of-2.bin")
    groups = [("t/m.safetensors", "t/m.safetensors.index.json")]
    found = look_up(f"{moto_store.uri}/w", moto_store.config, groups)
    assert list(found.objects) == [
        "t/m-1-of-2.safetensors",
        "t/m-2-of-2.safetensors",
        "t/m.safetensors.index.json",
    ]


def test_the_identity_follows_the_content_and_the_address_the_cache() -> None:
    def one(tag: str, name: str = "a", reference: str = "s3://b/w") -> StoredWeights:
        return StoredWeights(reference, "b", True, {name: StoredObject(f"w/{name}", 3, tag)})

    same, other = one("t1"), (one("t2"), one("t1", "b"))
    assert same.summary.startswith("1 object, 3 bytes, ETags ")
    assert all(same.summary != weights.summary for weights in other)
    assert one("t1", reference="s3://c/w").summary == same.summary
    assert one("t1", reference="s3://c/w").cache_name("") != same.cache_name("")
    assert same.cache_name("http://x") != same.cache_name("")


def test_nothing_there_and_too_much_are_fatal(
    moto_store: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(moto_store, "other.txt", "second.txt")
    reference = f"{moto_store.uri}/w"
    with pytest.raises(Fatal, match=r"looked for unet/a\.safetensors, unet/config\.json"):
        look_up(reference, moto_store.config, GROUPS)
    with pytest.raises(Fatal, match="no weights at"):
        look_up(f"{moto_store.uri}/absent", moto_store.config)
    with pytest.raises(ConfigError, match="no s3:// address"):
        look_up("s3://", moto_store.config)
    for name, text in (("MAX_OBJECT_BYTES", "19 bytes"), ("MAX_FOLDER_BYTES", "19 bytes")):
        with monkeypatch.context() as patch:
            patch.setattr(weights_lookup, name, 5)
            with pytest.raises(Fatal, match=text):
                look_up(reference, moto_store.config)
    monkeypatch.setattr(weights_lookup, "MAX_LISTED", 1)
    with pytest.raises(Fatal, match="more than 1 objects"):
        look_up(reference, moto_store.config)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "./x", "a//x", ".."])
def test_names_that_lead_out_of_the_folder_are_refused(
    monkeypatch: pytest.MonkeyPatch, moto_store: S3Storage, name: str
) -> None:
    """A server may list any key, also one that no file system should see."""
    from infra.storage import objects

    prefix = f"{moto_store.prefix}w/"
    listing = [StoredObject(f"{prefix}{name}", 1, "t")]
    monkeypatch.setattr(objects, "list_objects", lambda *_: iter(listing))
    with pytest.raises(Fatal, match="refused storage key"):
        look_up(f"{moto_store.uri}/w", moto_store.config)
    shard = StoredObject(f"{prefix}t/m-{name}.safetensors", 1, "t")
    index = StoredObject(f"{prefix}t/m.safetensors.index.json", 1, "t")
    monkeypatch.setattr(objects, "list_objects", lambda *_: iter([shard, index]))
    groups = [("t/m.safetensors.index.json",)]
    found = look_up(f"{moto_store.uri}/w", moto_store.config, groups)
    assert all("/" not in n.removeprefix("t/") for n in found.objects)
