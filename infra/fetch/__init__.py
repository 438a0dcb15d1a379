"""Reading the sources of items, which nobody vouches for: local files, object stores, the web."""

from __future__ import annotations

from infra.fetch.fetcher import Fetcher, check_config, fetch
from infra.fetch.problems import FetchTimeout

__all__ = ["FetchTimeout", "Fetcher", "check_config", "fetch"]
