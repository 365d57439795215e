"""What several pages show alike."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from dashboard import markup
from dashboard.figures.charts import CONFIG
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
