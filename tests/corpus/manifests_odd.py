"""Manifest arguments that name nothing usable, or more than is good."""

from __future__ import annotations

import os
from pathlib import Path

from geco_core.errors import Reason
from tests.corpus.case import Manifest
from tests.corpus.manifests_text import written
from tests.corpus.pictures import encoded, picture


def _near(folder: Path) -> str:
    (folder / "manifest.csv").write_text("id,prompt\na,chair\n")
    return str(folder / "manifset.csv")


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "m.csv")
    return str(folder / "m.csv")


def _loop(folder: Path) -> str:
    (folder / "m.csv").symlink_to("m.csv")
    return str(folder / "m.csv")


def _raw_names(folder: Path) -> str:
    images = folder / "images"
    images.mkdir()
    (images / "a.png").write_bytes(encoded(picture(), "PNG"))
    Path(os.fsdecode(os.fsencode(images) + b"/b\xff.png")).write_bytes(encoded(picture(), "PNG"))
    (images / "c\nd.png").write_bytes(encoded(picture(), "PNG"))
    os.mkfifo(images / "pipe.png")
    (images / "broken.png").symlink_to("none")
    (images / "outside.png").symlink_to("/etc/passwd")
    return str(images)


def _image_rows() -> tuple[Reason | None, ...]:
    return (None, None, Reason.MALFORMED_ROW, Reason.URI_REFUSED)


ODD = [
    Manifest("nothing given", lambda p: "", None, "no manifest"),
    Manifest("nothing there", lambda p: f"{p}/none.parquet", None, "there is no manifest"),
    Manifest("misspelt", _near, None, "did you mean"),
    Manifest("empty folder", str, None, "holds no images"),
    Manifest("device", lambda p: "/dev/zero", None, "there is no manifest"),
    Manifest("pipe", _pipe, None, "there is no manifest"),
    Manifest("link to itself", _loop, None, "there is no manifest"),
    Manifest("long name", lambda p: f"{p}/" + "n" * 300 + ".csv", None, "there is no manifest"),
    Manifest("long path", lambda p: f"{p}/" + "n/" * 5000 + "m.csv", None, "there is no manifest"),
    Manifest("NUL in the name", lambda p: f"{p}/a\x00b.csv", None, "there is no manifest"),
    Manifest("home of nobody", lambda p: "~no-such-user/m.csv", None, "there is no manifest"),
    Manifest("pattern without matches", lambda p: f"{p}/*.png", None, "holds no images"),
    Manifest("open bracket", lambda p: f"{p}/[", None, ""),
    Manifest("half a surrogate", lambda p: f"{p}/\udc80.csv", None, "there is no manifest"),
    Manifest("text file", written("m.txt", "a.png\n"), None, "no manifest this program reads"),
    Manifest("json file", written("m.json", "[]"), None, "no manifest this program reads"),
    Manifest("spreadsheet", written("m.xlsx", b"PK\x03\x04"), None, "no manifest this program"),
    Manifest("compressed", written("m.csv.gz", b"\x1f\x8b"), None, "no manifest this program"),
    Manifest("unknown scheme", lambda p: "ftp://example.org/m.csv", None, ""),
    Manifest("address of the web", lambda p: "https://example.org/m.csv", None, ""),
    Manifest(
        "column that is not there",
        written("m.csv", "id,picture\na,a.png\n"),
        None,
        "did you mean 'picture'",
        ("columns.image=pictures",),
    ),
    Manifest(
        "seed column of text",
        written("m.csv", "id,prompt\na,chair\n"),
        None,
        "columns.seed",
        ("columns.seed=nothing",),
    ),
    Manifest("folder of odd names", _raw_names, _image_rows(), ""),
]
