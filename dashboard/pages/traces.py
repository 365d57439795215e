"""Traces: search, and look at one."""

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
from dashboard.queries import traces as queries
from dashboard.queries.query import Row
from dashboard.time_range import SECOND_NS, iso_of
from dashboard.view import View, by_name, set_params

_STATUS = {"error": "With errors", "ok": "Without errors", "incomplete": "Incomplete"}
_ORDERS = {"newest": "Newest", "slowest": "Slowest", "errors": "Most errors", "spans": "Largest"}


def show(view: View) -> None:
    """One trace if the URL names it, else the search."""
    if view.param("trace"):
        one_trace.show(view)
    else:
        _search(view)


def _search(view: View) -> None:
    heading = st.empty()
    search = _filters(view)
    if search is None:
        return
    total = view.rows(queries.counted(view.span, search))[0]
    count = total["traces"]
    capped = "+" if search.asks_for_spans and count >= 10_000 else ""
    failed = f", {count_text(total['failed'])} with errors" if total["failed"] else ""
    heading.html(markup.title("Traces", f"{count_text(count)}{capped} found{failed}"))
    if not count:
        no_data(view, "No trace matches in this range.")
        return
    selection = chart(
        trace_scatter(view.rows(queries.scattered(view.span, search, count)), view.span, view.zone, view.palette),
        key=f"scatter-{view.span.start_ns if not view.span.preset else view.span.preset}",
        alt="Duration of traces over time; squares failed",
        on_select="rerun",
        selection_mode=("points", "box"),
    )
    _follow(view, selection)
    order = controls.choice("Order", "order", _ORDERS, "newest")
    traces = view.rows(queries.found(view.span, search))
    chosen = mounts.trace_list(_list_drawing(view, traces), key="traces")
    if chosen:
        set_params(trace=chosen, span="")
        st.rerun()
    if count > len(traces):
        st.caption(f"The first {len(traces)} of {count_text(count)}, {_ORDERS[order].lower()} first.")


def _filters(view: View) -> queries.TraceSearch | None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters", gap="small"):
        with st.container(width=200):
            service = controls.select(
                "Service", "service", by_name(view.rows(queries.services(view.span)), "service"), empty="Any"
            )
        with st.container(width=240):
            known = by_name(view.rows(queries.operations(view.span, service)), "operation") if service else []
            operation = controls.select("Operation", "operation", known, empty="Any")
        with st.container(width=150):
            status = controls.select("Status", "status", list(_STATUS), empty="Any", texts=_STATUS)
        with st.container(width=110):
            least = controls.text("At least", "min", placeholder="250ms")
        with st.container(width=110):
            most = controls.text("At most", "max", placeholder="2s")
        with st.container(width=220):
            tags = controls.text(
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
    try:
        return queries.TraceSearch(
            service=service,
            operation=operation,
            tags=queries.tags_of(tags),
            min_ns=queries.duration_of(least),
            max_ns=queries.duration_of(most),
            status=status if status in ("error", "ok", "incomplete") else "",  # type: ignore[arg-type]
            order=order if (order := view.param("order")) in _ORDERS else "newest",  # type: ignore[arg-type]
        )
    except ValueError as error:
        st.html(markup.notice(str(error), tone="warn"))
        return None


def _open_by_id() -> None:
    wanted = st.session_state["find-id"]
    if not wanted:
        return
    trace_id = queries.trace_id_of(wanted)
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
