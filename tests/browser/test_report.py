"""The report in a real browser: the viewer shows a mesh, nothing leaves the page, nothing
complains.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.report.runs import write_run
from workflows.report import build_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = os.environ.get("GECO_CHROMIUM") or next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
# WebGL without a GPU needs the software rasteriser; the rest keeps the browser itself off the
# network.
ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
]
TIMEOUT_MS = 150_000
POLL_MS = 100

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(400),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


@dataclass
class Visit:
    """An open page and everything it asked for or complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=ARGUMENTS, timeout=TIMEOUT_MS
        )
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    page = browser.new_page(viewport={"width": 900, "height": 500})
    page.set_default_timeout(TIMEOUT_MS)
    found = Visit(page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on(
        "console",
        lambda message: found.complaints.append(message.text) if message.type == "error" else None,
    )
    yield found
    page.close()


def _open(visit: Visit, path: str) -> None:
    visit.page.goto(Path(path).as_uri())
    _wait_loaded(visit)


def _wait_loaded(visit: Visit) -> None:
    _until(visit, "document.getElementById('viewer').loaded === true")


def _until(visit: Visit, expression: str) -> None:
    """Poll from outside: the page's policy forbids the evaluation that `wait_for_function` does."""
    for _ in range(TIMEOUT_MS // POLL_MS):
        if visit.page.evaluate(expression):
            return
        visit.page.wait_for_timeout(POLL_MS)
    pytest.fail(f"never true: {expression}")


def _foreground_share(visit: Visit) -> float:
    """Share of the viewer's own picture that the mesh covers, once it has drawn one.

    `loaded` comes before the first frame, and a software rasteriser may take seconds between them.
    """
    _until(visit, "document.getElementById('viewer').modelIsVisible === true")
    share = 0.0
    for _ in range(TIMEOUT_MS // POLL_MS):
        share = _drawn_share(visit)
        if share > 0:
            break
        visit.page.wait_for_timeout(POLL_MS)
    return share


def _drawn_share(visit: Visit) -> float:
    return visit.page.evaluate(
        """async () => {
            const viewer = document.getElementById('viewer');
            const bitmap = await createImageBitmap(await viewer.toBlob({mimeType: 'image/png'}));
            const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
            const context = canvas.getContext('2d');
            context.drawImage(bitmap, 0, 0);
            const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
            let solid = 0;
            for (let i = 3; i < pixels.length; i += 4) solid += pixels[i] > 200;
            return solid / (pixels.length / 4);
        }"""
    )


def test_the_viewer_shows_meshes_and_the_page_keeps_to_itself(visit: Visit, tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=3, failed=2)
    page_path = build_report(storage)
    _open(visit, page_path)
    share = _foreground_share(visit)
    assert 0.05 < share < 0.9
    assert visit.page.inner_text("#detail-title") == "object-00"

    visit.page.click(".card >> nth=1")
    _until(visit, "document.getElementById('viewer').alt.endsWith('object-01')")
    _wait_loaded(visit)
    visit.page.keyboard.press("ArrowRight")
    assert visit.page.inner_text("#detail-title") == "object-02"
    assert visit.page.get_attribute(".card >> nth=2", "aria-current") == "true"
    assert visit.page.evaluate("document.activeElement.dataset.index") == "2"
    _wait_loaded(visit)

    broken = (
        "[...document.images].filter((image) => image.complete && image.naturalWidth === 0).length"
    )
    assert visit.page.evaluate(broken) == 0
    foreign = [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert foreign == []
    assert [url for url in visit.requests if url.startswith("file:")] == [Path(page_path).as_uri()]
    assert visit.complaints == []


def test_hostile_texts_do_not_run(visit: Visit, tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=1, failed=2, evil=True)
    _open(visit, build_report(storage))
    assert visit.page.evaluate("window.evil") is None
    assert "window.evil=1" in visit.page.inner_text("#detail-title")
    assert visit.complaints == []


def test_requests_to_a_network_are_refused_by_the_page(visit: Visit, tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=1, failed=0)
    _open(visit, build_report(storage))
    refused = "fetch('http://127.0.0.1:9/x').then(() => 'sent', (error) => error.name)"
    assert visit.page.evaluate(refused) == "TypeError"
    assert any("Content Security Policy" in text for text in visit.complaints)
