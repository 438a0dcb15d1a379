"""From the collected data to one self-contained HTML page, by the rules of `workflows.report`:
everything is inlined, and a content security policy refuses any request.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflows.report.page import TEMPLATES as SHARED
from workflows.report.page import render_template

TEMPLATES = Path(__file__).parent / "templates"


def render_page(context: Mapping[str, Any]) -> str:
    """The page. Every value of `context` is escaped, but for markup of `charts`.

    Args:
        context: the names that `templates/distill.html` reads.
    """
    return render_template(
        TEMPLATES / "distill.html",
        context,
        styles=[SHARED / "page.css", TEMPLATES / "distill.css"],
        scripts={"script": (TEMPLATES / "distill.js").read_text(encoding="utf-8")},
    )
