"""Equal faults have equal names, other faults other names."""

from __future__ import annotations

import pickle

from actors.traces import keep_trace_digest, trace_digest


def fail(kind: type[Exception], text: str) -> Exception:
    try:
        raise kind(text)
    except Exception as error:
        return error


def test_the_place_counts_and_the_text_does_not() -> None:
    assert trace_digest(fail(ValueError, "item a")) == trace_digest(fail(ValueError, "item b"))
    assert trace_digest(fail(ValueError, "a")) != trace_digest(fail(TypeError, "a"))
    assert len(trace_digest(ValueError("never raised"))) == 8


def test_the_name_survives_a_journey_without_the_traceback() -> None:
    error = fail(ValueError, "a")
    name = trace_digest(error)
    keep_trace_digest(error)
    there = pickle.loads(pickle.dumps(error.with_traceback(None)))
    assert trace_digest(there) == name != trace_digest(ValueError("a"))
