"""What a page is given: the range and the filters that the URL says, the viewer's clock and colours, and the history.

The URL is the truth: a control shows what it says, and a change of a control is a change of the URL.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard.alert_board import BoardState
from dashboard.answers import Answers
from dashboard.database import Database
from dashboard.figures.palette import Palette, palette_of
from dashboard.live_feed import LiveFeed
from dashboard.queries.query import Query, Row
from dashboard.rooms import RoomMetrics, metrics_of
from dashboard.settings import DashboardSettings
from dashboard.time_range import DEFAULT_PRESET, MINUTE_NS, PRESETS, SECOND_NS, TimeRange, range_of
from tracecore.settings import DatabaseSettings, read

#: The clock moves in steps, so that what two controls, or two viewers, ask within one is the same question. A long
#: range takes longer steps: a three-hundredth of itself, a few pixels of its charts.
_LEAST_CLOCK_STEP_NS: Final = 5 * SECOND_NS
_MOST_CLOCK_STEP_NS: Final = MINUTE_NS
_CLOCK_STEPS_A_RANGE: Final = 300
#: Parameters that go along from page to page.
CARRIED: Final = ("range", "from", "to")


@dataclass(frozen=True)
class View:
    """One run of one page for one viewer."""

    span: TimeRange
    now_ns: int
    zone: tzinfo
    zone_name: str
    palette: Palette
    notice: str
    settings: DashboardSettings
    pages: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, query: Query) -> list[Row]:
        """The answer, remembered for a while: not to be changed. Raises ``HistoryUnavailable``."""
        return _answers().rows(query)[0]

    def all_rows(self, *queries: Query) -> list[list[Row]]:
        """An answer a query, asked side by side. Raises ``HistoryUnavailable``."""
        return _answers().rows(*queries)

    def expect(self, *queries: Query) -> None:
        """Begin to ask what ``rows`` will be asked for soon."""
        _answers().ask(queries)

    def at_this_moment(self) -> "View":
        """The same view with the clock as it is now: for what lives longer than a run of the page."""
        return replace(self, now_ns=_next_step(time.time_ns(), _LEAST_CLOCK_STEP_NS))

    def param(self, name: str) -> str:
        """A parameter of the URL, or empty."""
        return st.query_params.get(name, "")

    def link(self, page: str, **params: str) -> tuple[Any, dict[str, str]]:
        """A page and the parameters to open it with: the range, and what is given and not empty."""
        return self.pages[page], self.span.as_params() | {name: value for name, value in params.items() if value}


def current_view(pages: Mapping[str, Any]) -> View:
    """The view that the URL asks for, now."""
    clock_ns = time.time_ns()
    now_ns = _next_step(clock_ns, _LEAST_CLOCK_STEP_NS)
    step_ns = clock_step_ns(st.query_params.get("range", DEFAULT_PRESET))
    span, notice = range_of(st.query_params.to_dict(), _next_step(clock_ns, step_ns))
    zone_name = st.context.timezone or "UTC"
    try:
        zone: tzinfo = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError):
        zone, zone_name = UTC, "UTC"
    mode = st.context.theme.type or "light"
    return View(span, now_ns, zone, zone_name, palette_of(mode), notice, settings(), pages)


def clock_step_ns(preset: str) -> int:
    """How far the end of a range that follows the clock moves at once."""
    wanted = PRESETS.get(preset, 0) // _CLOCK_STEPS_A_RANGE
    return min(max(wanted, _LEAST_CLOCK_STEP_NS), _MOST_CLOCK_STEP_NS) // SECOND_NS * SECOND_NS


def _next_step(clock_ns: int, step_ns: int) -> int:
    return clock_ns // step_ns * step_ns + step_ns


@st.cache_resource(show_spinner=False)
def settings() -> DashboardSettings:
    """The process's settings, read once."""
    return read(DashboardSettings)


@st.cache_resource(show_spinner=False)
def database() -> Database:
    """The process's database, shared by all viewers."""
    return Database(
        read(DatabaseSettings).url.get_secret_value(),
        connections=settings().connections,
        query_timeout_s=settings().query_timeout_s,
    )


def set_params(**params: str) -> None:
    """Change the URL; an empty value takes its parameter away."""
    for name, value in params.items():
        if value:
            st.query_params[name] = value
        elif name in st.query_params:
            del st.query_params[name]


def select(label: str, name: str, options: Sequence[str], *, empty: str, texts: Mapping[str, str] | None = None) -> str:
    """A select box for parameter ``name``; empty where nothing is chosen. What the URL says is always an option."""
    chosen = st.query_params.get(name, "")
    choices = ["", *dict.fromkeys([*options, *([chosen] if chosen else [])])]
    key = _bound(name, chosen)
    names = dict(texts or {})
    st.selectbox(
        label,
        choices,
        key=key,
        format_func=lambda choice: names.get(choice, choice) or empty,
        on_change=_write_back,
        args=(name, key),
    )
    return chosen


def text(label: str, name: str, *, placeholder: str, help: str | None = None) -> str:
    """A text field for parameter ``name``."""
    chosen = st.query_params.get(name, "")
    key = _bound(name, chosen)
    st.text_input(label, key=key, placeholder=placeholder, help=help, on_change=_write_back, args=(name, key))
    return chosen


def choice(label: str, name: str, options: Mapping[str, str], default: str) -> str:
    """A row of buttons, one of them on, for parameter ``name``: value to text."""
    chosen = st.query_params.get(name, "")
    chosen = chosen if chosen in options else default
    key = _bound(name, chosen)
    st.segmented_control(
        label,
        list(options),
        key=key,
        format_func=lambda option: options[option],
        required=True,
        on_change=_write_back,
        args=(name, key, default),
        label_visibility="collapsed",
    )
    return chosen


def toggle(label: str, name: str, help: str | None = None) -> bool:
    """A switch for parameter ``name``: "1" or absent."""
    on = st.query_params.get(name) == "1"
    key = _bound(name, on)
    st.toggle(label, key=key, help=help, on_change=_write_back, args=(name, key))
    return on


def entered(page: str) -> None:
    """The viewer is on ``page``: its controls are its own.

    Two pages' controls with one key would be one to the server, which then tells the browser nothing of a value that it
    has told before; but the browser draws a new control, with nothing chosen.
    """
    st.session_state["page"] = page


def control_key(name: str) -> str:
    """The key of a control of this page."""
    return f"{st.session_state.get('page', '')}.{name}"


def _bound(name: str, value: Any) -> str:
    key = control_key(name)
    if st.session_state.get(key) != value:
        st.session_state[key] = value
    return key


def _write_back(name: str, key: str, default: str = "") -> None:
    value = st.session_state[key]
    text = "1" if value is True else "" if value is False or value is None else str(value)
    set_params(**{name: "" if text == default else text})


@st.cache_resource(show_spinner=False)
def _answers() -> Answers:
    return Answers(database(), settings().connections)


Page = Callable[[View], None]


def by_name(rows: Iterable[Row], column: str) -> list[str]:
    """One column of an answer as texts."""
    return [str(row[column]) for row in rows]


@st.cache_resource(show_spinner=False)
def _feed() -> LiveFeed:
    return LiveFeed(settings().live_api_url, settings().live_api_token.get_secret_value())


def alert_state() -> BoardState:
    """What the alert feed has told this process."""
    return _feed().state()


@st.cache_data(ttl=5, show_spinner=False)
def room_metrics(room: str) -> RoomMetrics:
    """The figures of "stream", "sink" or "live_api", some seconds old at most."""
    known = settings()
    url = {"stream": known.stream_url, "sink": known.sink_url, "live_api": known.live_api_url}[room]
    return metrics_of(url, known.live_api_token.get_secret_value() if room == "live_api" else "")
