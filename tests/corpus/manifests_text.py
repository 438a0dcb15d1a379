"""Bad CSV and JSON Lines manifests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from geco_core.errors import Reason
from tests.corpus.case import Manifest
from tests.corpus.pictures import encoded, picture

BAD, MISSING, TWICE = Reason.MALFORMED_ROW, Reason.MISSING_INPUT, Reason.DUPLICATE_ID
OK = None


def written(name: str, content: str | bytes) -> Callable[[Path], str]:
    """A maker of one file."""

    def make(folder: Path) -> str:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return make


def _csv(name: str, content: str | bytes, rows: tuple[Reason | None, ...] | None, text: str = ""):
    return Manifest(f"csv: {name}", written("m.csv", content), rows, text)


def _jsonl(name: str, content: str | bytes, rows: tuple[Reason | None, ...] | None, text: str = ""):
    return Manifest(f"jsonl: {name}", written("m.jsonl", content), rows, text)


def _seeded(seed: str) -> str:
    return f"id,prompt,seed\na,chair,1\nb,chair,{seed}\n"


def _line(**values: object) -> str:
    return json.dumps(values) + "\n"


def _nested(depth: int) -> str:
    return '{"id": "n", "prompt": "x", "extra": ' + "[" * depth + "]" * depth + "}\n"


GOOD = _line(id="a", prompt="chair")

CSV = [
    _csv("empty", "", None, "no header"),
    _csv("blank lines", "\n\n\n", None, "no header"),
    _csv("header only", "id,prompt\n", None, "no rows"),
    _csv("header and blank lines", "id,prompt\n\n\n", None, "no rows"),
    _csv("no header", "chair.png,a chair\ntable.png,a table\n", None, "no usable column"),
    _csv("usual misnomer", "id,image_path\na,a.png\n", None, "columns.image=image_path"),
    _csv("duplicate headers", "id,prompt,prompt\na,b,c\n", None, "two columns named"),
    _csv("reserved header", "id,prompt,__problem__\na,b,c\n", None, "__problem__"),
    _csv("nameless column", "id,,prompt\na,b,c\n", (OK,)),
    _csv("semicolons", "id;prompt\na;chair\n", None, "no usable column"),
    _csv("1,001 columns", ",".join(f"c{i}" for i in range(1001)) + "\n", None, "at most 1000"),
    _csv("wide characters", "id,prompt\na,chair\n".encode("utf-16"), None, "UTF-16"),
    _csv("picture", encoded(picture(), "PNG"), None, ""),
    _csv("zeros", bytes(4096), None, ""),
    _csv("one line of a megabyte", "x" * (1 << 20), None, ""),
    _csv("terminal codes in the header", "\x1b[31mid,\x07what\na,b\n", None, "no usable column"),
    _csv("short row", "id,prompt,seed\na,chair,1\nb\nc,chair,2\n", (OK, BAD, OK), "1 cells"),
    _csv("long row", "id,prompt\na,chair,1,2\nb,chair\n", (BAD, OK), "4 cells"),
    _csv("open quote", 'id,prompt\na,chair\nb,"chair\nc,chair\n', (OK, BAD), "unexpected end"),
    _csv("text behind a quote", 'id,prompt\na,"chair"s\nb,chair\n', (BAD, OK), "expected after"),
    _csv("stray quotes", 'id,prompt\na,3" pipe\nb,chair\n', (OK, OK)),
    _csv("huge cell", f"id,prompt\na,{'x' * (17 << 20)}\nb,chair\n", (BAD, OK), "field larger"),
    _csv("NUL in an id", "id,prompt\na\x00,chair\nb,chair\n", (BAD, OK), "control"),
    _csv("other encoding", "id,prompt\na,gr\xfcn\n".encode("latin-1"), (OK,)),
    _csv("byte order mark", "\ufeffid,prompt\r\na,chair\r\n", (OK,)),
    _csv("empty ids", "id,prompt\n,chair\na,chair\n,chair\n", (BAD, OK, BAD), "has no id"),
    _csv("long id", f"id,prompt\n{'i' * 513},chair\n{'i' * 512},chair\n", (BAD, OK), "513"),
    _csv("duplicate ids", "id,prompt\na,chair\na,table\nb,chair\n", (OK, TWICE, OK), "occurred"),
    _csv("line break in an id", 'id,prompt\n"a\nb",chair\nc,chair\n', (BAD, OK), "control"),
    _csv("terminal codes in an id", "id,prompt\n\x1b[31ma,chair\n", (BAD,), "control"),
    _csv("neither image nor prompt", "id,image,prompt\na,,\nb,,chair\n", (MISSING, OK)),
    _csv("negative seed", _seeded("-1"), (OK, BAD), "seed"),
    _csv("broken seed", _seeded("1.5"), (OK, BAD), "seed"),
    _csv("seed beyond 63 bits", _seeded(str(2**63)), (OK, BAD), "seed"),
    _csv("largest seed", _seeded(str(2**63 - 1)), (OK, OK)),
    _csv("seed of letters", _seeded("seven"), (OK, BAD), "seed"),
    _csv("seed of 5,000 digits", _seeded("9" * 5000), (OK, BAD), "seed"),
    _csv("seed that is no number", _seeded("nan"), (OK, BAD), "seed"),
    _csv("empty seed", _seeded(""), (OK, OK)),
    _csv("many columns in one row", "id,prompt\na" + ",x" * 100_000 + "\n", (BAD,), "cells"),
]

JSONL = [
    _jsonl("empty", "", None, "no rows"),
    _jsonl("blank lines", "\n \n", None, "no rows"),
    _jsonl("one array", '[\n{"prompt": "x"}\n]\n', (BAD, OK, BAD), "not JSON"),
    _jsonl("arrays", "[1]\n[2]\n", None, "no usable column"),
    _jsonl("wide characters", GOOD.encode("utf-16"), None, "UTF-16"),
    _jsonl("picture", encoded(picture(), "PNG"), None, ""),
    _jsonl("bad line", GOOD + "{nonsense\n" + _line(id="b", prompt="x"), (OK, BAD, OK), "line 2"),
    _jsonl("cut line", GOOD + '{"id": "b", "pro', (OK, BAD), "not JSON"),
    _jsonl("number as line", GOOD + "7\nnull\n", (OK, BAD, BAD), "not an object"),
    _jsonl("deep nesting", GOOD + _nested(100_000), (OK, BAD), "not JSON"),
    *(_jsonl(f"nesting of {depth}", GOOD + _nested(depth), (OK, OK)) for depth in (100, 500, 900)),
    _jsonl("NUL", GOOD + '{"id": "b\x00"}\n', (OK, BAD), "not JSON"),
    _jsonl("NUL in an id", GOOD + _line(id="b\x00", prompt="x"), (OK, BAD), "control"),
    _jsonl("half a surrogate", '{"id": "\\ud800", "prompt": "x"}\n' + GOOD, (OK, OK)),
    _jsonl("no number", '{"id":"a","prompt":"x","score":NaN}\n{"id":"b","prompt":"x"}\n', (OK, OK)),
    _jsonl("seed that is no number", '{"id": "a", "prompt": "x", "seed": NaN}\n', None, "seed"),
    _jsonl("broken seed", _line(id="a", prompt="x", seed=1.5), None, "seed"),
    _jsonl("huge seed", GOOD + _line(id="b", prompt="x", seed=2**70), (OK, BAD), "seed"),
    _jsonl("seed as text", _line(id="a", prompt="x", seed="7"), (OK,)),
    _jsonl("true seed", GOOD + _line(id="b", prompt="x", seed=True), None, "seed"),
    _jsonl("seed of 5,000 digits", GOOD + '{"seed": ' + "9" * 5000 + "}\n", (OK, BAD), "not JSON"),
    _jsonl("prompt of numbers", _line(prompt=7), None, "prompt"),
    _jsonl("list as image", _line(image=["a.png"]), (Reason.NOT_FOUND,)),
    _jsonl("half a surrogate as key", GOOD + '{"\\ud800": 1}\n', (OK, BAD), "not JSON"),
    _jsonl("reserved key", _line(id="a", prompt="x", __problem__="y"), (OK,)),
    _jsonl("1,001 keys", _line(**{f"k{i}": 1 for i in range(1001)}), None, "1000"),
    _jsonl("numbers as ids", _line(id=1, prompt="x") + _line(id=2, prompt="x"), (OK, OK)),
    _jsonl("huge line", GOOD + _line(id="b", prompt="x" * (70 << 20)), (OK, BAD), "line 2"),
]
