"""Damaged and hostile folders in the published layout, each with a fragment of its error.

Made from good ones by one change; `loads` names those that are odd but whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.corpus.checkpoints import Call, torch_bytes

UNET = "zero123plus-v1.2/unet/diffusion_pytorch_model.safetensors"
VAE = "zero123plus-v1.2/vae/diffusion_pytorch_model.safetensors"
TEXT = "zero123plus-v1.2/text_encoder/model.safetensors"
VISION = "zero123plus-v1.2/vision_encoder/model.safetensors"
INDEX = "zero123plus-v1.2/model_index.json"
WHITE = "InstantMesh/diffusion_pytorch_model.bin"
MESH = "InstantMesh/instant_mesh_large.ckpt"
PART = "model-00001-of-00001.safetensors"
SECRET = "secret.safetensors"  # beside the folders, where no link may lead


@dataclass(frozen=True)
class Folder:
    """A change to good weights, and a fragment of the error it must end in.

    Attributes:
        name: unique in the corpus.
        change: makes it bad; gets the folder that holds `zero123plus-v1.2` and `InstantMesh`.
        text: a pattern of the message; None when it has to load.
        linked: made of links, which no bucket can hold.
    """

    name: str
    change: Callable[[Path], object]
    text: str | None
    linked: bool = False


def without(*names: str) -> Callable[[Path], None]:
    """Some files are missing."""

    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def data(name: str, content: bytes) -> Callable[[Path], object]:
    """A file is another one."""
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Callable[[Path], object]:
    """A download that broke off."""
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def setting(name: str, **values: Any) -> Callable[[Path], object]:
    """A configuration says something else."""

    def change(folder: Path) -> None:
        path = folder / "zero123plus-v1.2" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def state(name: str, edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Other tensors in a safetensors file."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / name)
        edit(tensors)
        save_file(tensors, folder / name)

    return change


def bomb(name: str, *, archive: bool = True) -> Callable[[Path], object]:
    """A pickle that runs a command, under a published name."""
    harm = {"state_dict": {"lrm_generator.x": Call(os.system, "touch /tmp/harm")}}
    return lambda folder: (folder / name).write_bytes(torch_bytes(harm, archive=archive))


def link(name: str, target: str) -> Callable[[Path], None]:
    """A file is a link."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target.replace("@", str(folder)))

    return change


def shards(found: object, *, stem: str = "model") -> Callable[[Path], None]:
    """An index of shards instead of the text encoder's file, which stays as `PART`."""

    def change(folder: Path) -> None:
        whole = folder / TEXT
        whole.rename(whole.with_name(PART))
        names = list(load_file(whole.with_name(PART)))
        document = {"weight_map": dict.fromkeys(names, found)} if isinstance(found, str) else found
        whole.with_name(f"{stem}.safetensors.index.json").write_text(json.dumps(document))

    return change


def lightning(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    """Another content of the reconstructor's checkpoint."""

    def change(folder: Path) -> None:
        found = torch.load(folder / MESH, weights_only=True)
        torch.save(edit(found), folder / MESH)

    return change


def _add(tensors: dict[str, Any]) -> None:
    tensors["surprise.weight"] = torch.ones(1)


def _drop(tensors: dict[str, Any]) -> None:
    tensors.pop(min(tensors))


def _reshape(tensors: dict[str, Any]) -> None:
    name = min(tensors)
    tensors[name] = torch.cat([tensors[name], tensors[name]])


MISSING = [
    Folder("no folder", lambda f: (f / "zero123plus-v1.2").rename(f / "gone"), "are missing"),
    Folder("no text encoder", without(TEXT), r"missing \(looked for .*text_encoder/model"),
    Folder("no parts at all", without(VAE, TEXT, VISION), r"vae/diff.*text_encoder.*vision_enc"),
    Folder("no index", without(INDEX), r"looked for model_index\.json"),
    Folder("no white U-Net", without(WHITE), r"looked for diffusion_pytorch_model\.bin"),
    Folder("no reconstructor", without(MESH), r"looked for reconstructor\.safetensors"),
    Folder("no U-Net of the pipeline's own", without(UNET), None),
    Folder(
        "no configurations",
        without(
            "zero123plus-v1.2/unet/config.json",
            "zero123plus-v1.2/scheduler/scheduler_config.json",
        ),
        None,
    ),
]
DAMAGED = [
    Folder("half a VAE", cut(VAE), "truncated"),
    Folder("half a white U-Net", cut(WHITE), "damaged or truncated"),
    Folder("half a checkpoint", cut(MESH), "damaged or truncated"),
    Folder("empty VAE", data(VAE, b""), "is empty"),
    Folder("LFS pointers", data(VAE, b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    Folder("a login page", data(MESH, b"<html>log in</html>"), "web page"),
    Folder("index cut off", data(INDEX, b'{"ramping_coefficients": [0.1'), "is not JSON"),
    Folder("index is a list", data(INDEX, b"[]"), "is not a map"),
    Folder("index of 40 MB", data(INDEX, b" " * (40 << 20)), "is larger than"),
    Folder("index nested without end", data(INDEX, b'{"a":' + b"[" * 200_000), "is not JSON"),
    Folder("no ramp", data(INDEX, b"{}"), "no ramping_coefficients"),
    Folder("short ramp", data(INDEX, b'{"ramping_coefficients": [0.1]}'), "1 ramping coeff"),
    Folder("ramp of texts", data(INDEX, b'{"ramping_coefficients": ["a"]}'), "no ramping"),
    Folder(
        "ramp without values", data(INDEX, b'{"ramping_coefficients": [NaN,1,1,1,1]}'), "finite"
    ),
]
ANOTHER = [
    Folder("other heads", setting("unet/config.json", attention_head_dim=[4, 4]), "attention_head"),
    Folder("other scale", setting("vae/config.json", scaling_factor=0.13), "scaling_factor"),
    Folder(
        "noise instead of velocity",
        setting("scheduler/scheduler_config.json", prediction_type="epsilon"),
        "prediction_type",
    ),
    Folder("a key too many", state(VAE, _add), r"surprise\.weight is unknown"),
    Folder("a key too few", state(VAE, _drop), "is missing"),
    Folder("another shape", state(VAE, _reshape), "has shape"),
    Folder(
        "towers swapped",
        lambda f: (f / TEXT).replace(f / VISION),
        r"looked for .*text_encoder/model",
    ),
    Folder("a U-Net for a VAE", lambda f: (f / UNET).replace(f / VAE), r"vae: .* is missing"),
    Folder(
        "no reconstructor inside", lightning(lambda _: {"a": torch.ones(1)}), "no reconstructor"
    ),
    Folder(
        "names twice",
        lightning(lambda c: {**c, "state_dict.lrm_generator.x": torch.ones(1)}),
        r"x is unknown",
    ),
    Folder("shapes without values", lightning(lambda _: meta()), "meta"),
]
HOSTILE = [
    Folder("a bomb as white U-Net", bomb(WHITE), "would run code"),
    Folder("an old bomb as white U-Net", bomb(WHITE, archive=False), "would run code"),
    Folder("a bomb as checkpoint", bomb(MESH), "would run code"),
    Folder("a bomb as safetensors", bomb(VAE), "would run code|damaged"),
    Folder(
        "link out of the folder", link(VAE, f"@/{SECRET}"), "outside of the folder", linked=True
    ),
    Folder(
        "relative link out of it",
        link(VAE, f"../../{SECRET}"),
        "outside of the folder",
        linked=True,
    ),
    Folder(
        "index is a link out", link(INDEX, "/etc/hostname"), "outside of the folder", linked=True
    ),
    Folder(
        "link to itself",
        link(VAE, "diffusion_pytorch_model.safetensors"),
        "looked for",
        linked=True,
    ),
    Folder("link to nothing", link(VAE, "absent"), "looked for", linked=True),
    Folder("link to a device", link(VAE, "/dev/zero"), "looked for", linked=True),
    Folder(
        "link inside of the folder",
        link(UNET, "../vae/diffusion_pytorch_model.safetensors"),
        None,
        linked=True,
    ),
]
SHARDS = [
    Folder("shards", shards(PART), None),
    Folder("shard in the parent folder", shards(f"../../{SECRET}"), "not beside it"),
    Folder("shard with an absolute path", shards("/etc/x.safetensors"), "not beside it"),
    Folder("shard in a folder below", shards(f"a/{PART}"), "not beside it"),
    Folder("shard that is not there", shards("gone.safetensors"), "files are missing"),
    Folder("index without a map", shards({"metadata": {}}), "no weight_map"),
    Folder("index of another name", shards(PART, stem="weights"), "looked for"),
    Folder(
        "index that lacks tensors",
        shards({"weight_map": {"text_model.a": PART}}),
        "does not hold",
    ),
]


def meta() -> dict[str, Any]:
    """A checkpoint saved from a model that was never filled."""
    return {"state_dict": {"lrm_generator.encoder.a": torch.ones(2, device="meta")}}


CASES = [*MISSING, *DAMAGED, *ANOTHER, *HOSTILE, *SHARDS]
