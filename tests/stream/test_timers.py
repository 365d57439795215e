"""Timers of traces."""

from hypothesis import given
from hypothesis import strategies as st

from stream.timers import Timers

_SLOT_NS = 1 << 23


@given(
    st.lists(st.tuples(st.integers(0, 6 * _SLOT_NS) | st.integers(0, 2**62), st.booleans()), max_size=60),
    st.lists(st.integers(0, 7 * _SLOT_NS), max_size=8),
)
def test_what_is_due_comes_once_slot_by_slot_and_never_late(set_at: list[tuple[int, bool]], told: list[int]) -> None:
    timers: Timers[tuple[int, int]] = Timers()
    waiting: dict[tuple[int, int], int] = {}
    late: list[tuple[int, int]] = []
    for number, (due_ns, is_late) in enumerate(set_at):
        entry = (due_ns, number)
        if is_late:
            late.append(entry)
        else:
            waiting[entry] = timers.set(due_ns, entry)
    for now_ns in (*sorted(told), 2**63):
        if late:
            entry = late.pop()
            waiting[entry] = timers.set(entry[0], entry)
        slots = timers.begun(now_ns)
        assert [slot for slot, _ in slots] == sorted({slot for slot, _ in slots})
        for slot, entries in slots:
            assert entries == [entry for entry, its_slot in waiting.items() if its_slot == slot]
            for entry in entries:
                assert entry[0] < now_ns + _SLOT_NS
                del waiting[entry]
        assert all(due_ns > now_ns for due_ns, _ in waiting)
    assert not waiting


def test_nothing_is_due_after_all_was_forgotten() -> None:
    timers: Timers[str] = Timers()
    timers.set(1, "one")
    timers.clear()
    slot = timers.set(2, "two")
    assert timers.begun(5) == [(slot, ["two"])]
