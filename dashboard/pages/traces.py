"""Traces: search, and look at one."""

import time
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from dashboard import markup
from dashboard import view as controls
from dashboard.components import mounts
from dashboard.figures.palette import service_colours
from dashboard.figures.timeline import shape_of
from dashboard.figures.trace_scatter import trace_scatter
from dashboard.formats import clock_text, count_text, counted, duration_text
from dashboard.pages import one_trace
from dashboard.pages.elements import chart, no_data
from dashboard.queries import trace_search as search_queries
from dashboard.queries import traces as queries
from dashboard.queries.query import Row
from dashboard.time_range import SECOND_NS, TimeRange, iso_of
from dashboard.view import View, by_name, set_params

_STATUS = {"error": "With errors", "ok": "Without errors", "incomplete": "Incomplete"}
#: A search within spans looks this long, and this long when asked for more.
_PROMPT_S = 0.8
_PATIENT_S = 15.0
_ORDERS = {"newest": "Newest", "slowest": "Slowest", "errors": "Most errors", "spans": "Largest"}


def show(view: View) -> None:
    """One trace if the URL names it, else the search."""
    if view.param("trace"):
        one_trace.show(view)
    else:
        _search(view)


def _search(view: View) -> None:
    heading = st.empty()
    search, wrong = _asked(view)
    # The longest question first: it is answered while the controls are drawn.
    if search is not None and not search.asks_for_spans:
        view.expect(search_queries.found(view.span, search))
    _filters(view)
    if search is None:
        st.html(markup.notice(wrong, tone="warn"))
        return
    searched, hits = _within_spans(view, search) if search.asks_for_spans else (view.span, None)
    rows = view.rows(search_queries.found(searched, search, hits))
    count, failed = (rows[0]["traces"], rows[0]["failed"]) if rows else (0, 0)
    capped = "+" if hits is not None and len(hits) >= search_queries.MOST_HITS else ""
    errors = f", {count_text(failed)} with errors" if failed else ""
    heading.html(markup.title("Traces", f"{count_text(count)}{capped} found{errors}"))
    if searched.start_ns > view.span.start_ns and not capped:
        _search_further(view, searched)
    if not rows:
        if searched.start_ns == view.span.start_ns:
            no_data(view, "No trace matches in this range.")
        return
    selection = chart(
        trace_scatter([row for row in rows if row["dot"]], view.span, view.zone, view.palette),
        key=f"scatter-{view.span.start_ns if not view.span.preset else view.span.preset}",
        alt="Duration of traces over time; squares failed",
        on_select="rerun",
        selection_mode=("points", "box"),
    )
    _follow(view, selection)
    order = controls.choice("Order", "order", _ORDERS, "newest")
    traces = [row for row in rows if row["place"] is not None]
    chosen = mounts.trace_list(_list_drawing(view, traces), key="traces")
    if chosen:
        set_params(trace=chosen, span="")
        st.rerun()
    if count > len(traces):
        st.caption(f"The first {len(traces)} of {count_text(count)}{capped}, {_ORDERS[order].lower()} first.")


def _within_spans(view: View, search: search_queries.TraceSearch) -> tuple[TimeRange, tuple[bytes, ...]]:
    """Traces with a span as asked, from the newest back for as long as a person waits; how far it came, and which."""
    budget_s = _PATIENT_S if view.param("further") else _PROMPT_S
    began_s = time.monotonic()
    hits: set[bytes] = set()
    reached_ns = view.span.end_ns
    for stretch in search_queries.stretches(view.span):
        before_s = time.monotonic()
        hits.update(bytes(row["trace_id"]) for row in view.rows(search_queries.hits(stretch, search)))
        reached_ns = stretch.start_ns
        now_s = time.monotonic()
        # The next stretch is twice as long, and takes about twice as long.
        if len(hits) >= search_queries.MOST_HITS or now_s - began_s + 2 * (now_s - before_s) > budget_s:
            break
    return TimeRange(reached_ns, view.span.end_ns), tuple(sorted(hits))


def _search_further(view: View, searched: TimeRange) -> None:
    since = clock_text(searched.start_ns, view.zone, now_ns=view.now_ns)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.html(
            markup.html_of(f"Searched from {since} on: the newest first, as far as a second goes."), width="content"
        )
        if st.button("Search further back", icon=":material/history:", type="tertiary"):
            set_params(further="1")
            st.rerun()


def _asked(view: View) -> tuple[search_queries.TraceSearch | None, str]:
    """What the URL asks for; or None, and a sentence that says what is wrong with it."""
    status, order = view.param("status"), view.param("order")
    try:
        return (
            search_queries.TraceSearch(
                service=view.param("service"),
                operation=view.param("operation"),
                tags=search_queries.tags_of(view.param("tags")),
                min_ns=search_queries.duration_of(view.param("min")),
                max_ns=search_queries.duration_of(view.param("max")),
                status=status if status in ("error", "ok", "incomplete") else "",  # type: ignore[arg-type]
                order=order if order in _ORDERS else "newest",  # type: ignore[arg-type]
            ),
            "",
        )
    except ValueError as error:
        return None, str(error)


def _filters(view: View) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters", gap="small"):
        with st.container(width=200):
            service = controls.select(
                "Service", "service", by_name(view.rows(queries.services(view.span)), "service"), empty="Any"
            )
        with st.container(width=240):
            known = by_name(view.rows(queries.operations(view.span, service)), "operation") if service else []
            controls.select("Operation", "operation", known, empty="Any")
        with st.container(width=150):
            controls.select("Status", "status", list(_STATUS), empty="Any", texts=_STATUS)
        with st.container(width=110):
            controls.text("At least", "min", placeholder="250ms")
        with st.container(width=110):
            controls.text("At most", "max", placeholder="2s")
        with st.container(width=220):
            controls.text(
                "Tags",
                "tags",
                placeholder="http.route=/cart",
                help='key=value, several with spaces between, "in quotes" if a value has spaces',
            )
        with st.container(width=190):
            st.text_input("Trace id", key="find-id", placeholder="hex, or a traceparent", on_change=_open_by_id)
    if st.session_state.pop("find-id-wrong", False):
        st.html(
            markup.notice(
                "That is no trace id.",
                "A trace id has 32 hexadecimal digits; a traceparent header works too.",
                tone="warn",
            )
        )


def _open_by_id() -> None:
    wanted = st.session_state["find-id"]
    if not wanted:
        return
    trace_id = search_queries.trace_id_of(wanted)
    if trace_id is None:
        st.session_state["find-id-wrong"] = True
        return
    st.session_state["find-id"] = ""
    set_params(trace=trace_id.hex())


def _follow(view: View, selection: Any) -> None:
    """A click on a dot opens its trace; a box becomes the range."""
    boxes = selection.selection.get("box") or []
    if boxes and boxes[0].get("x"):
        first, last = sorted(_moment_ns(view, text) for text in boxes[0]["x"][:2])
        if last - first >= SECOND_NS:
            set_params(**{"range": "", "from": iso_of(first), "to": iso_of(last)})
            st.rerun(scope="app")
    points = selection.selection.get("points") or []
    if not boxes and len(points) == 1 and points[0].get("customdata"):
        chosen = points[0]["customdata"]
        set_params(trace=chosen[0] if isinstance(chosen, list) else chosen, span="")
        st.rerun()


def _moment_ns(view: View, text: str) -> int:
    return (
        int(datetime.fromisoformat(str(text)).replace(tzinfo=view.zone).astimezone(UTC).timestamp() * 1000) * 1_000_000
    )


def _list_drawing(view: View, traces: list[Row]) -> dict[str, Any]:
    shapes: dict[bytes, list[Row]] = {}
    for span in view.rows(queries.shapes(traces)):
        shapes.setdefault(bytes(span["trace_id"]), []).append(span)
    services = {span["service"] for spans in shapes.values() for span in spans}
    longest = max((trace["duration_ns"] for trace in traces), default=1) or 1
    palette = view.palette
    return {
        "palette": {
            name: getattr(palette, name) for name in ("ink", "muted", "line", "surface", "accent", "warn", "bad")
        },
        "colours": service_colours(services, palette),
        "traces": [
            {
                "id": bytes(trace["trace_id"]).hex(),
                "service": trace["root_service"],
                "operation": trace["root_operation"],
                "when": clock_text(trace["start_ns"], view.zone, now_ns=view.now_ns),
                "duration": duration_text(trace["duration_ns"]),
                "share": trace["duration_ns"] / longest,
                "spans": counted(trace["span_count"], "span"),
                "errors": trace["error_count"],
                "complete": trace["is_complete"],
                "replayed": bool(trace["replay_id"]),
                "shape": shape_of(shapes.get(bytes(trace["trace_id"]), []), trace["start_ns"], trace["duration_ns"]),
            }
            for trace in traces
        ],
    }
