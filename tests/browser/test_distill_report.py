"""The report of a distillation in a real browser: the slider moves, nothing leaves the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_report import (
    ARGUMENTS,
    CHROMIUM,
    TIMEOUT_MS,
    Visit,
    playwright,
    visit,
)
from tests.workflows.distill_report.runs import write_distillation
from workflows.distill_report import build_distill_report

__all__ = ["visit"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, timeout=TIMEOUT_MS
        )
        yield chromium
        chromium.close()


SHOWN = "[...document.querySelectorAll('.training img')].filter((i) => !i.hidden).map((i) => i.alt)"


def test_samples_are_walked_through_and_the_page_keeps_to_itself(
    visit: Visit,
    tmp_path: Path,
) -> None:
    path = Path(build_distill_report(write_distillation(tmp_path / "run")))
    visit.page.goto(path.as_uri())
    assert visit.page.evaluate(SHOWN) == [
        "samples of Stage I after 400 updates",
        "samples of Stage II after 400 updates",
    ]
    visit.page.focus("input[type=range] >> nth=0")
    visit.page.keyboard.press("Home")
    assert visit.page.evaluate(SHOWN)[0] == "samples of Stage I after 100 updates"
    assert visit.page.inner_text("output >> nth=0") == "after 100 updates"
    visit.page.click("[data-play] >> nth=0")
    assert visit.page.evaluate(SHOWN)[0] == "samples of Stage I after 200 updates"
    assert visit.page.get_attribute("[data-play] >> nth=0", "aria-pressed") == "true"
    visit.page.click("[data-play] >> nth=0")
    assert visit.page.get_attribute("[data-play] >> nth=0", "aria-pressed") == "false"

    broken = "[...document.images].filter((i) => i.complete && i.naturalWidth === 0).length"
    assert visit.page.evaluate(broken) == 0
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not visit.page.evaluate(wide), "the page itself never scrolls sideways"
    visit.page.set_viewport_size({"width": 380, "height": 700})
    assert not visit.page.evaluate(wide)
    assert [url for url in visit.requests if not url.startswith("data:")] == [path.as_uri()]
    assert visit.complaints == []


def test_hostile_texts_do_not_run(visit: Visit, tmp_path: Path) -> None:
    storage = write_distillation(tmp_path / "run", evil=True, done=("conditions", "targets"))
    visit.page.goto(Path(build_distill_report(storage)).as_uri())
    assert visit.page.evaluate("window.evil") is None
    assert "window.evil=1" in visit.page.inner_text(".notice")
    assert visit.complaints == []
