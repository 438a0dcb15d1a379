"""Bootstrap intervals against the normal approximation, and paired differences."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from geco_core.evaluate.summary import paired, summarise


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    found = summarise(list(values), seed=0)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.median == pytest.approx(np.median(values))
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert summarise(list(values), seed=0) == found
    assert summarise(list(values), seed=1) != found


def test_pairs_have_narrower_intervals_than_the_runs() -> None:
    base = np.random.default_rng(0).normal(0.0, 5.0, 30)
    better = base + 0.5
    difference = paired(list(better), list(base), seed=0)
    assert (difference.low, difference.high) == pytest.approx((0.5, 0.5))
    alone = summarise(list(base), seed=0)
    assert alone.high - alone.low > 1.0
    with pytest.raises(ValueError, match="paired"):
        paired([1.0], [1.0, 2.0], 0)


def test_values_that_are_not_there_do_not_count() -> None:
    assert summarise([1.0, math.nan, 3.0], 0).count == 2
    empty = summarise([math.nan], 0)
    assert empty.count == 0
    assert json.dumps(empty.to_json()).count("null") == 4
