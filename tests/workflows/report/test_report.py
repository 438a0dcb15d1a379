from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from geco_core.errors import Fatal
from geco_core.mesh.glb import read_glb
from infra.commit import done_key, part_key
from infra.storage import LocalStorage
from tests.workflows.report.runs import EVIL, write_run
from workflows.report import build_report
from workflows.report.page import VIEWER, content_security_policy, duration, percent


class _Page(HTMLParser):
    """Tags with their attributes, the text outside scripts and styles, and script bodies by their
    id or order.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            attributes, body = self.scripts[-1]
            self.scripts[-1] = (attributes, body + data)
        elif self._inside != "style":
            self.text += f" {data} "

    def script(self, name: str) -> str:
        return next(body for attributes, body in self.scripts if attributes.get("id") == name)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> LocalStorage:
    return write_run(tmp_path_factory.mktemp("report") / "run", done=5, failed=3)


@pytest.fixture(scope="module")
def page(storage: LocalStorage) -> _Page:
    return _built(storage)


def _built(storage: LocalStorage, **options: int) -> _Page:
    return _Page(Path(build_report(storage, **options)).read_text(encoding="utf-8"))


def test_numbers_reasons_stages_and_settings_are_there(page: _Page) -> None:
    words = " ".join(page.text.split())
    for expected in (
        "items 9",
        "done 5",
        "failed 3 37.5%",
        "skipped 1",
        "watertight 100%",
        "2 image_too_small failed",
        "1 duplicate_id skipped",
        "12x5 pixels, at least 16 per side are needed",
        "config_digest",
        "Apache-2.0",
        "sampler.steps 4",
        "3 of 3 shards",
        "elapsed 3 min 00 s",
    ):
        assert expected in words, expected
    assert re.search(r"multiview 5 2\.200 2\.380", words)


def test_every_asset_is_embedded_whole(page: _Page) -> None:
    details = json.loads(page.script("asset-data"))
    assert [asset["item_id"] for asset in details] == [f"object-{index:02d}" for index in range(5)]
    for index, asset in enumerate(details):
        glb = read_glb(base64.b64decode(page.script(f"glb-{index}")))
        assert glb.extras["item_id"] == asset["item_id"]
        assert [name for name, _ in asset["views"]] == ["front", "left", "back", "top"]
        assert asset["input"].startswith("data:image/png;base64,")
    assert details[1]["notes"] == ["background keyed out: uniform #ffffff"]


def test_nothing_on_the_page_points_elsewhere(page: _Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:"), (tag, name, value)
    policy = next(
        a["content"]
        for t, a in page.tags
        if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "script-src 'sha256-" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


def test_the_policy_admits_exactly_the_scripts_that_run(page: _Page) -> None:
    running = [body for attributes, body in page.scripts if attributes.get("type") == "module"]
    assert len(running) == 2
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy == content_security_policy(*running)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=2, failed=3, evil=True)
    text = Path(build_report(storage)).read_text(encoding="utf-8")
    page = _Page(text)
    assert EVIL not in text
    assert "<script>window.evil" not in text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert len(page.scripts) == 5  # two GLBs, the data, the viewer, the page's own
    details = json.loads(page.script("asset-data"))
    assert details[0]["item_id"] == "object-00" + EVIL
    assert html.escape("window.evil=1</script>") in text  # escaped, and still readable


def test_the_same_run_gives_the_same_page(storage: LocalStorage, tmp_path: Path) -> None:
    first = Path(build_report(storage, tmp_path / "a.html", max_assets=2)).read_bytes()
    second = Path(build_report(str(storage.root), tmp_path / "b.html", max_assets=2)).read_bytes()
    assert first == second


def test_the_sample_is_spread_and_limits_leave_a_note(storage: LocalStorage) -> None:
    page = _built(storage, max_assets=2)
    first_glb = base64.b64decode(page.script("glb-0"))
    details = json.loads(page.script("asset-data"))
    assert [asset["item_id"] for asset in details] == ["object-00", "object-04"]
    assert "2 of 5, spread evenly over the run" in page.text
    page = _built(storage, max_assets=2, max_glb_bytes=100)
    details = json.loads(page.script("asset-data"))
    assert all("see the dataset" in asset["glb_note"] for asset in details)
    assert all(asset["views"] for asset in details)
    page = _built(storage, max_assets=2, max_total_glb_bytes=len(first_glb))
    notes = [asset["glb_note"] for asset in json.loads(page.script("asset-data"))]
    assert notes[0] == ""
    assert "The page is full" in notes[-1]


def test_a_run_in_progress_says_so(tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=5, failed=3, commit=1)
    assert "in progress: 4 of 9 rows" in " ".join(_built(storage).text.split())


def test_a_run_without_assets_has_a_page(tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=0, failed=3)
    page = _built(storage)
    assert "No item of this run is done." in page.text
    assert json.loads(page.script("asset-data")) == []


def test_a_damaged_part_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=5, failed=3)
    storage.put_atomic(part_key(0), b"PAR1 nothing PAR1")
    page = _built(storage)
    assert "shard 0 can not be read" in page.text
    assert [asset["item_id"] for asset in json.loads(page.script("asset-data"))] == ["object-04"]


def test_parts_without_a_done_record_do_not_count(tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=5, failed=3)
    storage.delete(done_key(0))
    details = json.loads(_built(storage).script("asset-data"))
    assert [asset["item_id"] for asset in details] == ["object-04"]


def test_missing_input_pictures_are_no_error(tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=2, failed=0)
    (tmp_path / "inputs" / "0.png").unlink()
    (tmp_path / "inputs" / "1.png").write_bytes(b"no image")
    details = json.loads(_built(storage).script("asset-data"))
    assert [asset["input"] for asset in details] == ["", ""]
    (tmp_path / "inputs" / "manifest.parquet").unlink()
    assert len(json.loads(_built(storage).script("asset-data"))) == 2


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="there is no run"):
        build_report(tmp_path)


def test_the_vendored_viewer_is_the_one_its_readme_names() -> None:
    readme = (VIEWER.parent / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(VIEWER.read_bytes()).hexdigest() in readme


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.421, "0.42 s"), (42.2, "42 s"), (200, "3 min 20 s"), (7530, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (1, "100%"), (0.125, "12.5%"), (1e-6, "<0.1%"), (0.99999, ">99.9%")],
)
def test_percentages(share: float, text: str) -> None:
    assert percent(share) == text
