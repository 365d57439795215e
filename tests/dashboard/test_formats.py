"""Numbers as people read them, and names that cannot become markup."""

import pytest

from dashboard.formats import (
    ago_text,
    change_text,
    count_text,
    duration_text,
    percent_text,
    plain,
    rate_text,
)


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0 ns"),
        (850, "850 ns"),
        (85_000, "85 µs"),
        (3_210_000, "3.21 ms"),
        (999_960_000, "1 s"),
        (1_240_000_000, "1.24 s"),
        (125 * 10**9, "2 min 5 s"),
        (3 * 3600 * 10**9, "3 h 0 min"),
        (None, "\N{EN DASH}"),
        (float("nan"), "\N{EN DASH}"),
    ],
)
def test_durations_take_the_unit_that_fits(duration_ns: float | None, text: str) -> None:
    assert duration_text(duration_ns) == text


def test_counts_rates_and_shares_keep_three_digits() -> None:
    assert [count_text(count) for count in (0, 950, 9_500, 12_400, 3_100_000)] == [
        "0",
        "950",
        "9500",
        "12.4 k",
        "3.1 M",
    ]
    assert [rate_text(rate) for rate in (0, 12.44, 0.05, 0.001)] == ["0/s", "12.4/s", "3/min", "3.6/h"]
    assert [percent_text(ratio) for ratio in (0, 0.000001, 0.0214, 1)] == ["0 %", "<0.01 %", "2.14 %", "100 %"]


def test_changes_have_a_sign_and_large_ones_a_factor() -> None:
    assert change_text(132, 100) == "+32 %"
    assert change_text(92, 100) == "\N{MINUS SIGN}8 %"
    assert change_text(410, 100) == "\N{MULTIPLICATION SIGN}4.1"
    assert change_text(5, None) == ""


def test_ages_are_rounded_down() -> None:
    assert [ago_text(seconds * 10**9) for seconds in (2, 40, 300, 7200, 200_000)] == [
        "now",
        "40 s ago",
        "5 min ago",
        "2 h ago",
        "2 d ago",
    ]


def test_a_hostile_name_is_shown_letter_by_letter() -> None:
    hostile = '<img src=x onerror="alert(1)">%{customdata}\x1b[0m'
    shown = plain(hostile)
    assert "<" not in shown
    assert "{" not in shown
    assert "\x1b" not in shown
