"""Tables of benchmarks in a Markdown file, between markers of their own.

`<!-- NAME: begin -->` and `<!-- NAME: end -->` are lines; what stands between them is replaced.
"""

from __future__ import annotations


def replaced(text: str, name: str, section: str) -> str:
    """The text with the section of that name replaced. Raises ValueError without its markers."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the file holds no {begin} ... {end}")
    return f"{before}{begin}\n{section}\n{end}{after}"
