"""Patterns over keys agree with `glob` over files."""

from __future__ import annotations

import glob
from pathlib import Path

import pytest

from infra.patterns import fixed_part, is_pattern, matches

FILES = (
    "a.png",
    "b.PNG",
    ".hidden.png",
    "in/a.png",
    "in/a1.png",
    "in/.b.png",
    "in/deep/er/a.png",
    "in/.dark/a.png",
    "in/[x].png",
    "in/ab^c.png",
    "in/x+y.png",
)
PATTERNS = (
    "*.png",
    "in/*.png",
    "in/**/*.png",
    "**/*.png",
    "**",
    "in/**",
    "in/?.png",
    "in/a[0-9].png",
    "in/a[!0-9].png",
    "in/[[]x].png",
    "in/ab[^]c.png",
    "in/.*.png",
    "i?/d*/*/a.*",
    "in/[x.png",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_find_what_glob_finds(tmp_path: Path, pattern: str) -> None:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = glob.glob(pattern, root_dir=tmp_path, recursive=True)  # noqa: PTH207 - the reference
    files = {name for name in found if (tmp_path / name).is_file()}
    assert {name for name in FILES if matches(name, pattern)} == files


def test_the_folder_above_the_first_wildcard() -> None:
    assert fixed_part("a/b/c*.png") == "a/b"
    assert fixed_part("/a/**/x[1].png") == "/a"
    assert fixed_part("*.png") == ""
    assert is_pattern("a/[b].png")
    assert not is_pattern("a/b.png")
