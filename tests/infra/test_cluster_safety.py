"""Open clusters are noticed, with the remedy; closed ones are not accused."""

from __future__ import annotations

import pytest

from infra.cluster_safety import is_loopback, judge, weaknesses_of_own


def test_a_cluster_as_ray_starts_it_is_fine() -> None:
    assert weaknesses_of_own({}) == []
    assert weaknesses_of_own({"RAY_AUTH_MODE": "token"}) == []


def test_authentication_that_is_switched_off_is_noticed() -> None:
    (weakness,) = weaknesses_of_own({"RAY_AUTH_MODE": "Disabled"})
    assert weakness.remedy == "unset RAY_AUTH_MODE"


@pytest.mark.parametrize(
    ("open_to_all", "dashboard", "found"),
    [
        (False, "", []),
        (None, "127.0.0.1:8265", []),
        (True, "127.0.0.1:8265", ["asks for no token"]),
        (False, "10.0.0.4:8265", ["dashboard"]),
        (True, "0.0.0.0:8265", ["asks for no token", "dashboard"]),
    ],
)
def test_what_is_open_is_said(open_to_all: bool | None, dashboard: str, found: list[str]) -> None:
    texts = [weakness.text for weakness in judge("h:6379", open_to_all, dashboard)]
    assert len(texts) == len(found)
    assert all(part in text for part, text in zip(found, texts, strict=True))


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("host:1", False),
     ("0.0.0.0:1", False), ("[::]:1", False)],
)  # fmt: skip
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
