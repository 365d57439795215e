"""The script that Streamlit runs for each viewer: the frame around the pages."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import streamlit as st

from dashboard import markup
from dashboard.database import HistoryUnavailable
from dashboard.pages import alerts, errors, overview, performance, pipeline, service_flow, traces
from dashboard.time_range import PRESETS, SECOND_NS, iso_of
from dashboard.view import CARRIED, Page, View, alert_state, control_key, current_view, entered, set_params

_LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">'
    '<rect x="2" y="4" width="20" height="3.6" rx="1.8" fill="{ink}"/>'
    '<rect x="6" y="10.2" width="11" height="3.6" rx="1.8" fill="{accent}"/>'
    '<rect x="12" y="16.4" width="7.5" height="3.6" rx="1.8" fill="{bad}"/></svg>'
)


def _frame(body: Page, refresh_s: int | None) -> None:
    """One page in its frame: what it shows is asked again every ``refresh_s`` while its range follows the clock."""
    entered(body.__module__)
    view = current_view(_pages)
    _top_bar(view)
    every = timedelta(seconds=refresh_s) if refresh_s and view.span.preset else None

    @st.fragment(run_every=every)
    def content() -> None:
        now = current_view(_pages)
        try:
            if now.notice:
                st.html(markup.notice(now.notice, tone="warn"))
            body(now)
        except HistoryUnavailable as error:
            st.html(markup.notice(error.reason, error.advice, tone="bad"))

    content()


def _top_bar(view: View) -> None:
    palette = view.palette
    colours = "".join(f"--{name}: {getattr(palette, name)};" for name in ("good", "warn", "bad", "accent", "muted"))
    logo = quote(_LOGO.format(ink=palette.ink, accent=palette.accent, bad=palette.bad))
    st.html(f'<style>:root {{{colours} --logo: url("data:image/svg+xml,{logo}")}}\n{_LOOK}</style>')
    carried = {name: value for name in CARRIED if (value := view.param(name))}
    with st.container(key="topbar", horizontal=True, vertical_alignment="center", gap="small"):
        st.html('<div class="brand">Tracewatch</div>', width="content")
        with st.container(key="nav", horizontal=True, gap=None, width="content"):
            firing = len(alert_state().firing)
            for name, page in _pages.items():
                label = f"Alerts :red[■ {firing}]" if name == "alerts" and firing else page.title
                st.page_link(page, label=label, query_params=carried)
        st.space("stretch")
        _range_control(view)


def _range_control(view: View) -> None:
    preset = view.span.preset or None
    key = control_key("range")
    if st.session_state.get(key) != preset:
        st.session_state[key] = preset
    st.segmented_control(
        "Time range", list(PRESETS), key=key, on_change=_choose_preset, args=(key,), label_visibility="collapsed"
    )
    start, end = (datetime.fromtimestamp(at / SECOND_NS, view.zone) for at in (view.span.start_ns, view.span.end_ns))
    label = "Custom" if view.span.preset else f"{start:%b %-d %H:%M} to {end:%b %-d %H:%M}"
    with st.popover(label, icon=":material/calendar_month:"):
        st.caption(f"Times in {view.zone_name}")
        first = st.datetime_input("From", value=start.replace(tzinfo=None), step=60)
        last = st.datetime_input("To", value=end.replace(tzinfo=None), step=60)
        if st.button("Show this range", type="primary", width="stretch") and first and last:
            if first < last:
                begin, until = (int(at.replace(tzinfo=view.zone).timestamp()) * SECOND_NS for at in (first, last))
                set_params(**{"range": "", "from": iso_of(begin), "to": iso_of(until)})
                st.rerun()
            st.caption(":red[The range ends before it begins.]")


def _choose_preset(key: str) -> None:
    chosen = st.session_state[key]
    if chosen:
        set_params(**{"range": chosen, "from": "", "to": ""})


def _page(body: Page, title: str, path: str, refresh_s: int | None = None, **options: Any) -> Any:
    run: Callable[[], None] = partial(_frame, body, refresh_s)
    return st.Page(run, title=title, url_path=path, **options)


_LOOK = Path(__file__).with_name("look.css").read_text()
st.set_page_config(page_title="Tracewatch", layout="wide", initial_sidebar_state="collapsed")
_pages = {
    "overview": _page(overview.show, "Overview", "overview", refresh_s=15, default=True),
    "flow": _page(service_flow.show, "Service flow", "service-flow", refresh_s=30),
    "traces": _page(traces.show, "Traces", "traces"),
    "performance": _page(performance.show, "Performance", "performance"),
    "errors": _page(errors.show, "Errors", "errors"),
    "alerts": _page(alerts.show, "Alerts", "alerts"),
    "pipeline": _page(pipeline.show, "Pipeline", "pipeline", refresh_s=15),
}
st.navigation(list(_pages.values()), position="hidden").run()
