"""What people type into the search, and how far a search within spans goes at a time."""

from itertools import pairwise

import pytest

from dashboard.queries.trace_search import duration_of, stretches, tags_of, trace_id_of
from dashboard.time_range import DAY_NS, MINUTE_NS, TimeRange


def test_stretches_cover_the_range_from_its_end_and_double() -> None:
    whole = TimeRange(7, 7 + DAY_NS)
    pieces = list(stretches(whole))
    assert (pieces[0].end_ns, pieces[-1].start_ns) == (whole.end_ns, whole.start_ns)
    assert all(later.start_ns == earlier.end_ns for later, earlier in pairwise(pieces))
    lengths = [piece.duration_ns for piece in pieces]
    assert lengths[0] == 10 * MINUTE_NS
    assert all(longer == 2 * shorter for shorter, longer in pairwise(lengths[:-1]))


def test_a_short_range_is_one_stretch() -> None:
    assert list(stretches(TimeRange(0, MINUTE_NS))) == [TimeRange(0, MINUTE_NS)]


@pytest.mark.parametrize(
    ("typed", "nanoseconds"), [("250ms", 250e6), ("1.5 s", 1.5e9), ("80", 80e6), ("2min", 120e9), ("5 µs", 5000)]
)
def test_durations_are_read_as_people_write_them(typed: str, nanoseconds: float) -> None:
    assert duration_of(typed) == nanoseconds


def test_tags_may_be_quoted() -> None:
    assert tags_of('a=1 "b=x y"') == (("a", "1"), ("b", "x y"))
    with pytest.raises(ValueError, match="is no tag"):
        tags_of("nonsense")


def test_a_trace_id_is_found_in_what_was_pasted() -> None:
    hexadecimal = "ab" * 16
    assert (
        trace_id_of(f" 00-{hexadecimal}-{'1' * 16}-01 ") == trace_id_of(hexadecimal.upper()) == bytes.fromhex("ab" * 16)
    )
    assert trace_id_of("ab" * 8) == bytes(8) + bytes.fromhex("ab" * 8)
    assert trace_id_of("no") is None
