"""Fenced blocks of a page, and running them in a place where everything is tiny.

A page is run as it is written. What differs from the reader's machine, and nothing else:

| on the page | here |
|---|---|
| `hf download` | a program on PATH that copies stand-in files of the published layout |
| `aws s3 sync` | a program on PATH that uploads to a server on loopback |
| `geco` | in this process; in the slow test the real program |
| a YAML file | written as on the page, then given tiny sizes, one process and one thread |
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workflows import cli

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HF = """#!{python}
import os, pathlib, shutil, sys
verb, repo, *names = sys.argv[1:sys.argv.index("--local-dir")]
source = pathlib.Path(os.environ["STANDINS"]) / repo
target = pathlib.Path(sys.argv[sys.argv.index("--local-dir") + 1])
assert verb == "download" and source.is_dir(), repo
wanted = names or [str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()]
for name in wanted:
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / name, target / name)
"""
_AWS = """#!{python}
import os, pathlib, sys
import boto3
service, verb, source, target = sys.argv[1:]
assert (service, verb) == ("s3", "sync"), sys.argv
bucket, _, prefix = target.removeprefix("s3://").partition("/")
client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])
for path in sorted(pathlib.Path(source).rglob("*")):
    if path.is_file():
        client.upload_file(str(path), bucket, f"{{prefix}}/{{path.relative_to(source)}}")
"""


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, and its text."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Lines of a shell, continued ones joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]

    @property
    def file_name(self) -> str:
        """Of a YAML block that starts with `# name.yaml`."""
        return self.text.splitlines()[0].removeprefix("# ")


@dataclass
class Transcript:
    """A command and what it printed; `code` is its exit code."""

    command: str
    code: int
    output: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a Markdown page, in order."""
    return [Block(*match) for match in _FENCE.findall(page.read_text())]


def write_programs(folder: Path) -> None:
    """Put the stand-ins of `hf` and `aws` into a folder."""
    folder.mkdir()
    for name, text in (("hf", _HF), ("aws", _AWS)):
        (folder / name).write_text(text.format(python=sys.executable))
        (folder / name).chmod(0o755)


def in_process(command: str) -> Transcript:
    """Run a `geco` command in this process."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = cli.main(shlex.split(command)[1:])
    return Transcript(command, code, output.getvalue())


def in_shell(command: str) -> Transcript:
    """Run a command in a shell."""
    done = subprocess.run(
        ["bash", "-euc", command],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Transcript(command, done.returncode, done.stdout)


def run_page(
    chosen: Sequence[Block],
    settings: Mapping[str, Mapping[str, Any]],
    geco: Callable[[str], Transcript],
) -> list[Transcript]:
    """Run blocks one after the other in the working folder; an error ends the test.

    Args:
        chosen: of a page, in order.
        settings: by system, laid over every YAML file.
        geco: runs a `geco` command.
    """
    done: list[Transcript] = []
    for block in chosen:
        if block.language == "yaml":
            written = yaml.safe_load(block.text)
            text = yaml.safe_dump(_over(written, settings[written["system"]]))
            Path(block.file_name).write_text(text)
        elif block.language == "python":
            exec(compile(block.text, "page", "exec"), {})
        else:
            assert block.language == "bash", f"a block of {block.language!r} is not run"
            for command in block.commands:
                done.append(geco(command) if command.startswith("geco ") else in_shell(command))
                assert done[-1].code == 0, f"$ {command}\n{done[-1].output}"
    return done


def search_path(programs: Path) -> str:
    """PATH with the stand-ins first, then the programs of this environment."""
    return os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        deeper = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _over(merged[key], value) if deeper else value
    return merged
