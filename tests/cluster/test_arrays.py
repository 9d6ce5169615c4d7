"""Arrays in parts: every task once, and never more at once than the cap says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from reelmill.cluster.arrays import array_parts


@hypothesis_settings(deadline=None)
@given(tasks=st.integers(1, 5000), cap=st.integers(1, 200), most=st.integers(2, 1001))
def test_parts_hold_all_tasks_under_the_limit_and_the_cap(tasks: int, cap: int, most: int) -> None:
    parts = array_parts(tasks, cap, most)
    assert [share for part in parts for share in range(part.first, part.first + part.size)] == list(
        range(tasks)
    )
    # Indices are 0 … size - 1 and must be below MaxArraySize.
    assert all(0 < part.size < most and part.cap > 0 for part in parts)
    lanes: dict[int, int] = {}  # parts that wait for one another never run together
    lane_of: dict[int, int] = {}
    for number, part in enumerate(parts):
        lane_of[number] = number if part.after is None else lane_of[part.after]
        lanes[lane_of[number]] = max(lanes.get(lane_of[number], 0), part.cap)
    assert sum(lanes.values()) == cap or (len(parts) == 1 and parts[0].cap == cap)


def test_parts_share_the_cap_and_end_together() -> None:
    parts = array_parts(3000, 64, 1001)
    assert [(part.first, part.size, part.cap, part.after) for part in parts] == [
        (0, 1000, 22, None),
        (1000, 1000, 21, None),
        (2000, 1000, 21, None),
    ]
    assert [part.size for part in array_parts(1001, 64, 1001)] == [501, 500]


def test_parts_beyond_the_cap_wait_for_another() -> None:
    assert [part.after for part in array_parts(50, 2, 11)] == [None, None, 0, 1, 2]
