"""Timers of traces."""

from hypothesis import given
from hypothesis import strategies as st

from stream.timers import Timers

_SLOT_NS = 1 << 23


@given(
    st.lists(st.tuples(st.integers(0, 6 * _SLOT_NS) | st.integers(0, 2**62), st.booleans()), max_size=60),
    st.lists(st.integers(0, 7 * _SLOT_NS), max_size=8),
)
def test_timers_come_once_and_in_order(set_at: list[tuple[int, bool]], told: list[int]) -> None:
    timers: Timers[str] = Timers()
    late: list[tuple[int, int, str]] = []
    waiting = []
    for number, (due_ns, is_late) in enumerate(set_at):
        timer = (due_ns, number, f"entry {number}")
        if is_late:
            late.append(timer)
        else:
            timers.set(*timer)
            waiting.append(timer)
    for now_ns in (*sorted(told), 2**63):
        assert timers.due(now_ns) == sorted(timer for timer in waiting if timer[0] <= now_ns)
        waiting = [timer for timer in waiting if timer[0] > now_ns]
        if late:
            timers.set(*late[-1])
            waiting.append(late.pop())
    assert timers.due(2**63) == sorted(waiting)


def test_nothing_is_due_after_all_was_forgotten() -> None:
    timers: Timers[str] = Timers()
    timers.set(1, 1, "one")
    timers.clear()
    timers.set(2, 2, "two")
    assert timers.due(5) == [(2, 2, "two")]
