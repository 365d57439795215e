"""What several pages show alike."""

from datetime import tzinfo
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dashboard import markup
from dashboard.figures.charts import CONFIG
from dashboard.figures.palette import GLYPHS, Grade
from dashboard.formats import ago_text, clock_text, duration_text, percent_text, plain, rate_text, significant
from dashboard.queries.alerts import Episode
from dashboard.queries.query import query
from dashboard.view import View, set_params

_HOW_TO_SEND = markup.joined(
    "Point a service at the pipeline: install ",
    markup.code("tracewatch"),
    ", set ",
    markup.code("OTEL_SERVICE_NAME"),
    " and ",
    markup.code("TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS"),
    "; or send OTLP to the gateway's port 4318; or run ",
    markup.code("python -m quickstart demo"),
    " for a shop that makes traces and fails by itself.",
)


def no_data(view: View, headline: str) -> None:
    """Why a page is empty: nothing at all yet, or nothing in this range, and then where the data is."""
    newest = view.rows(query("SELECT max(start_time) AS newest FROM traces"))
    if not newest or newest[0]["newest"] is None:
        st.html(markup.notice("There are no traces yet.", _HOW_TO_SEND))
        return
    at = newest[0]["newest"].astimezone(view.zone)
    st.html(markup.notice(headline, f"The newest trace began at {at:%Y-%m-%d %H:%M:%S}."))
    if st.button("Show the hour around it", key="to-newest"):
        around = int(at.timestamp())
        set_params(**{"range": "", "from": str((around - 3540) * 1000), "to": str((around + 60) * 1000)})
        st.rerun()


def open_link(view: View, page: str, label: str, icon: str | None = None, **params: str) -> None:
    """A link to another page with the same range."""
    target, query_params = view.link(page, **params)
    st.page_link(target, label=label, icon=icon, query_params=query_params)


def chart(figure: go.Figure, key: str, alt: str, **options: Any) -> Any:
    """A chart in the house's way; ``alt`` says in words what it shows."""
    return st.plotly_chart(figure, theme=None, config=CONFIG, key=key, alt=alt, **options)


def alert_line(episode: Episode, now_ns: int, zone: tzinfo) -> str:
    """An alert in two lines of HTML: what and where, since when and against what."""
    grade: Grade = "good" if not episode.firing else "bad" if episode.severity == "critical" else "warn"
    state = "firing" if episode.firing else "resolved"
    where = f"{episode.service} · {episode.operation}" if episode.operation else episode.service
    began = f"since {clock_text(episode.starts_at_ns, zone, now_ns=now_ns)} ({ago_text(now_ns - episode.starts_at_ns)})"
    ended = f", ended {clock_text(episode.ends_at_ns, zone, now_ns=now_ns)}" if episode.ends_at_ns else ""
    numbers = measured_text(episode.observed, episode.baseline, episode.unit)
    replay = f" · replay {episode.replay_id}" if episode.replay_id else ""
    return (
        f'<div class="alert" data-alert="{plain(episode.episode_id)}"><div>'
        f'<span class="{grade}">{GLYPHS[grade]} {state}</span>'
        f" <b>{plain(episode.name)}</b> {plain(where)}</div>"
        f'<div class="muted">{plain(episode.summary, 240)}</div>'
        f'<div class="muted">{began}{ended}{" · " + plain(numbers) if numbers else ""}{plain(replay)}</div></div>'
    )


def alert_row(view: View, episode: Episode) -> str:
    """The line of an alert as a link to it."""
    address = markup.address("alerts", view.span.as_params() | {"alert": episode.episode_id})
    line = alert_line(episode, view.now_ns, view.zone)
    return f'<a class="alert-row" href="{address}" target="_self">{line}</a>'


def measured_text(observed: float | None, baseline: float | None, unit: str) -> str:
    """Observed against baseline, in the unit's own words."""
    if observed is None:
        return ""
    text = _in_unit(observed, unit)
    return f"{text}, usually {_in_unit(baseline, unit)}" if baseline is not None else text


def _in_unit(value: float, unit: str) -> str:
    if unit == "ns":
        return duration_text(value)
    if unit in ("ratio", "1"):
        return percent_text(value)
    if unit == "1/s":
        return rate_text(value)
    if unit == "errors" and value == 1:
        return "1 error"
    return f"{significant(value)} {unit}"
