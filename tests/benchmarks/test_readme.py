"""A benchmark's table in a Markdown file: its section is replaced, and nothing else."""

from __future__ import annotations

import pytest

from benchmarks.readme import replaced


def test_only_the_marked_section_is_replaced() -> None:
    other = "<!-- b: begin -->\nkept\n<!-- b: end -->\n"
    old = f"before\n<!-- a: begin -->\nold\n<!-- a: end -->\n{other}"
    assert replaced(old, "a", "new") == old.replace("old", "new")


@pytest.mark.parametrize(
    "text", ["", "<!-- a: begin -->\nno end", "<!-- b: begin --><!-- b: end -->"]
)
def test_a_file_without_the_section_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a: begin"):
        replaced(text, "a", "new")
