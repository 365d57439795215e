"""Numbers and times as a person reads them: three significant digits, the unit that fits, the viewer's zone."""

from datetime import UTC, datetime, tzinfo
from html import escape
from typing import Final

MISSING: Final = "\N{EN DASH}"
_MINUS: Final = "\N{MINUS SIGN}"
_TIMES: Final = "\N{MULTIPLICATION SIGN}"


def duration_text(duration_ns: float | None) -> str:
    """85 µs, 3.2 ms, 1.24 s, 2 min 5 s."""
    if duration_ns is None or duration_ns != duration_ns:
        return MISSING
    sign, value = (_MINUS, -duration_ns) if duration_ns < 0 else ("", duration_ns)
    if value >= 119.5e9:
        minutes, seconds = divmod(round(value / 1e9), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{sign}{hours} h {minutes} min" if hours else f"{sign}{minutes} min {seconds} s"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if value >= size * 0.9995:
            return f"{sign}{significant(value / size)} {unit}"
    return f"{sign}{value:.0f} ns"


def significant(value: float) -> str:
    """Three significant digits without an exponent: 1.24, 12.4, 124; thousands keep all their digits."""
    if value == 0:
        return "0"
    magnitude = abs(value)
    decimals = 0 if magnitude >= 99.95 else 1 if magnitude >= 9.995 else 2
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count_text(count: float | None) -> str:
    """950, 12.4 k, 3.1 M."""
    if count is None:
        return MISSING
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= size * 0.9995 and not (unit == "k" and abs(count) < 9999.5):
            return f"{significant(count / size)} {unit}"
    return significant(count) if count != int(count) else f"{int(count)}"


def counted(count: int, thing: str) -> str:
    """1 service, 2 services."""
    return f"{count_text(count)} {thing if count == 1 else thing + 's'}"


def rate_text(per_second: float | None) -> str:
    """12.4/s; below one a second, per minute or per hour: 3/min."""
    if per_second is None:
        return MISSING
    if per_second == 0:
        return "0/s"
    if per_second >= 0.995:
        return f"{count_text(float(significant(per_second)) if per_second < 1000 else per_second)}/s"
    if per_second * 60 >= 0.995:
        return f"{significant(per_second * 60)}/min"
    return f"{significant(per_second * 3600)}/h"


def percent_text(ratio: float | None) -> str:
    """0.5 %; what is above zero never reads as zero."""
    if ratio is None or ratio != ratio:
        return MISSING
    if 0 < ratio < 0.0001:
        return "<0.01 %"
    return f"{significant(ratio * 100)} %"


def change_text(now: float | None, before: float | None) -> str:
    """Plus 32 %, minus 8 %, times 4.1, with signs; empty where there is nothing to compare."""
    if not now or not before:
        return ""
    ratio = now / before
    if ratio >= 3:
        return f"{_TIMES}{significant(ratio)}"
    percent = round((ratio - 1) * 100)
    return f"+{percent} %" if percent > 0 else f"{_MINUS}{-percent} %" if percent < 0 else "±0 %"


def local_time(time_ns: int, zone: tzinfo) -> datetime:
    """Unix nanoseconds on the viewer's clock, without the zone: what a chart's axis is to show."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).astimezone(zone).replace(tzinfo=None)


def clock_text(time_ns: int, zone: tzinfo, *, now_ns: int | None = None) -> str:
    """14:03:22 today, else Jan 31 14:03."""
    moment = local_time(time_ns, zone)
    if now_ns is not None and local_time(now_ns, zone).date() == moment.date():
        return f"{moment:%H:%M:%S}"
    return f"{moment:%b} {moment.day} {moment:%H:%M}"


def moment_text(time_ns: int, zone: tzinfo) -> str:
    """2026-01-31 14:03:22.481, to the millisecond."""
    return f"{local_time(time_ns, zone):%Y-%m-%d %H:%M:%S}.{time_ns % 1_000_000_000 // 1_000_000:03d}"


def ago_text(age_ns: int) -> str:
    """now, 40 s ago, 5 min ago, 3 h ago, 2 d ago."""
    seconds = age_ns / 1e9
    if seconds < 5:
        return "now"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f"{int(seconds / size)} {unit} ago"
    return "now"


def plain(text: str, max_length: int = 120) -> str:
    """A name from a span, made harmless for HTML and for a chart's pseudo-HTML, and of bounded length.

    Braces become entities too: Plotly fills ``%{...}`` in hover templates.
    """
    short = text if len(text) <= max_length else text[: max_length - 1] + "…"
    visible = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in short)
    return escape(visible).replace("{", "&#123;").replace("}", "&#125;")
