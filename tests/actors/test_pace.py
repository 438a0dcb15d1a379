"""What is known of the pace decides whether a shard can still be finished."""

from __future__ import annotations

from actors.pace import Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_shard_that_can_not_be_finished_in_time_is_known() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(1)
    assert pace.fits(1, 0.0)  # nobody knows yet
    clock.now += 10
    pace.end(1, committed=True)
    pace.begin(2)
    clock.now += 4
    assert pace.fits(2, 6.0)
    assert not pace.fits(2, 5.0)


def test_shards_given_back_say_nothing_about_the_pace() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(1)
    clock.now += 500
    pace.end(1, committed=False)
    pace.begin(2)
    assert pace.fits(2, 1.0)
