"""One trace: its timeline, what a span holds, where its time went."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import streamlit as st

from dashboard import markup
from dashboard.components import mounts
from dashboard.export import jaeger_json, otlp_json
from dashboard.figures.timeline import (
    TimelineSpan,
    compared_operations,
    in_tree_order,
    time_by_service,
    timeline_drawing,
)
from dashboard.formats import change_text, counted, duration_text, moment_text, percent_text
from dashboard.pages.elements import open_link
from dashboard.queries import traces as queries
from dashboard.queries.query import Row
from dashboard.queries.trace_search import trace_id_of
from dashboard.view import View, set_params
from tracecore.errors import TracewatchError

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


def show(view: View) -> None:
    """The trace that the URL names."""
    if st.button("Back to the search", icon=":material/arrow_back:", type="tertiary", key="back"):
        set_params(trace="", span="", compare="")
        st.rerun()
    trace = _stored(view, view.param("trace"))
    if trace is None:
        return
    spans = queries.timeline_spans(view.rows(queries.spans_of_trace(trace)))
    _heading(view, trace, spans)
    origin = bytes(trace["error_origin"]).hex() if trace["error_origin"] is not None else ""
    selected = view.param("span")
    drawing = timeline_drawing(
        spans, queries.critical_segments(trace), view.palette, selected=selected, error_origin=origin
    )
    _actions(view, trace)
    chosen = mounts.timeline(drawing, key="timeline")
    if chosen and chosen != selected:
        set_params(span=chosen)
        st.rerun(scope="fragment")
    st.caption(
        "Underlined: critical path. ■ failed, ▲ repaired or odd. Keys: arrows move and fold, Enter shows a span,"
        " + and - zoom, f fits a span, 0 shows all."
    )
    if other := view.param("compare"):
        _compared(view, spans, other)
    left, right = st.columns((3, 2), gap="large")
    with left:
        if selected:
            _span(view, trace, selected)
        else:
            st.html(markup.notice("Choose a span to see its attributes, events and links."))
    with right:
        _time_by_service(spans, trace)


def _actions(view: View, trace: Row) -> None:
    """Compare and download, above the timeline."""
    trace_id = bytes(trace["trace_id"]).hex()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="actions"):
        root = {"service": trace["root_service"], "operation": trace["root_operation"]}
        open_link(view, "traces", "Others like it", icon=":material/search:", **root)
        open_link(view, "performance", "Its distribution", icon=":material/bar_chart:", **root)
        with st.popover("Compare", icon=":material/compare_arrows:"):
            if st.button("with a typical one", help="The trace of the same request whose duration is the median"):
                _compare_with(view.rows(queries.typical_trace(view.span, trace)))
            typed = st.text_input("or with a trace id", key="compare-with", placeholder="32 hexadecimal digits")
            if typed:
                other = trace_id_of(typed)
                _compare_with([{"trace_id": other}] if other else [])
        with st.popover("Download", icon=":material/download:"):
            for name, make in (("OTLP", otlp_json), ("Jaeger", partial(jaeger_json, trace_id))):
                st.download_button(
                    f"{name} JSON",
                    partial(_exported, view, trace, make),
                    file_name=f"{trace_id}.{name.lower()}.json",
                    mime="application/json",
                    on_click="ignore",
                    key=f"download-{name}",
                )


def _compare_with(rows: Sequence[Row]) -> None:
    if rows:
        set_params(compare=bytes(rows[0]["trace_id"]).hex())
        st.rerun()
    st.caption("There is no such trace to compare with.")


def _exported(view: View, trace: Row, make: Callable[[Sequence[Row]], str]) -> str:
    try:
        return make(view.rows(queries.whole_spans(trace)))
    except TracewatchError as error:
        return json.dumps({"error": str(error)})


def _compared(view: View, spans: list[TimelineSpan], text: str) -> None:
    """The other trace's timeline, and the operations by how far their own times lie apart."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(markup.section("Compared with"), width="content")
        if st.button("Close", icon=":material/close:", type="tertiary", key="close-compare"):
            set_params(compare="")
            st.rerun()
    other = _stored(view, text)
    if other is None:
        return
    theirs = queries.timeline_spans(view.rows(queries.spans_of_trace(other)))
    st.html(
        markup.facts(
            [
                markup.Fact("Trace", markup.code(bytes(other["trace_id"]).hex())),
                markup.Fact("Duration", duration_text(other["duration_ns"])),
                markup.Fact("Began", moment_text(other["start_ns"], view.zone)),
                markup.Fact("Spans", str(other["span_count"])),
            ]
        )
    )
    mounts.timeline(timeline_drawing(theirs, queries.critical_segments(other), view.palette), key="timeline-other")
    rows = compared_operations(spans, theirs)
    st.html(
        markup.table(
            ("Service", "Operation", "Calls here", "there", "Own time here", "there", "Change"),
            [
                (
                    service,
                    name,
                    str(calls),
                    str(other_calls),
                    duration_text(own),
                    duration_text(other_own),
                    change_text(own, other_own) or ("only here" if calls else "only there"),
                )
                for service, name, calls, own, other_calls, other_own in rows[:25]
            ],
            numeric=(2, 3, 4, 5, 6),
        )
    )


def _stored(view: View, text: str) -> Row | None:
    trace_id = trace_id_of(text)
    if trace_id is None:
        st.html(markup.notice("That is no trace id.", "A trace id has 32 hexadecimal digits.", tone="warn"))
        return None
    rows = view.rows(queries.one_trace(trace_id))
    if rows:
        return rows[0]
    advice = (
        "It may not have closed yet (a few seconds), was not kept by tail sampling, or is older than the retention."
    )
    st.html(markup.notice(f"Trace {trace_id.hex()} is not stored.", advice, tone="warn"))
    return None


def _heading(view: View, trace: Row, spans: list[TimelineSpan]) -> None:
    trace_id = bytes(trace["trace_id"]).hex()
    st.html(
        markup.title(trace["root_service"][:80], markup.joined(trace["root_operation"], "  ", markup.code(trace_id)))
    )
    errors = trace["error_count"]
    facts = [
        markup.Fact("Duration", duration_text(trace["duration_ns"])),
        markup.Fact("Began", moment_text(trace["start_ns"], view.zone), view.zone_name),
        markup.Fact("Spans", str(trace["span_count"]), f"in {counted(len(trace['services']), 'service')}"),
        markup.Fact("Depth", str(1 + max((depth for _, depth in in_tree_order(spans)), default=0))),
        markup.Fact("Errors", f"■ {errors}" if errors else "none", tone="bad" if errors else ""),
    ]
    if trace["error_service"]:
        facts.append(markup.Fact("Error began in", trace["error_service"], tone="bad"))
    if trace["replay_id"]:
        facts.append(markup.Fact("Replay", trace["replay_id"]))
    st.html(markup.facts(facts))
    remarks = list(trace["warnings"])
    if not trace["is_complete"] and not remarks:
        remarks.append("spans are missing; what they called hangs under the root")
    if trace["duplicate_count"]:
        remarks.append(f"{counted(trace['duplicate_count'], 'span')} arrived again and count once")
    if len(spans) < trace["span_count"]:
        remarks.append(f"{len(spans)} of {trace['span_count']} spans are shown")
    if remarks:
        st.html(markup.notice("▲ " + "; ".join(remarks) + ".", tone="warn"))


def _span(view: View, trace: Row, span_id: str) -> None:
    try:
        rows = view.rows(queries.span_details(trace, bytes.fromhex(span_id)))
    except ValueError:
        rows = []
    if not rows:
        st.html(markup.notice(f"The trace has no span {span_id[:32]}.", tone="warn"))
    for row in rows:
        _one_span(view, trace, row)


def _one_span(view: View, trace: Row, row: Row) -> None:
    st.html(markup.section(row["operation"][:120], row["service"]))
    failed = row["status"] == 2
    facts = [
        markup.Fact("Duration", duration_text(row["duration_ns"])),
        markup.Fact("Own time", duration_text(row["self_time_ns"])),
        markup.Fact("On the critical path", duration_text(row["critical_path_ns"])),
    ]
    if row["gap_ns"] is not None:
        facts.append(markup.Fact("Network gap", duration_text(row["gap_ns"])))
    facts.append(markup.Fact("Kind", _KINDS[row["kind"]] if row["kind"] < len(_KINDS) else "unknown"))
    if failed:
        facts.append(markup.Fact("Failed", row["error_type"] or "error", row["status_message"] or "", tone="bad"))
    st.html(markup.facts(facts))
    for warning in row["warnings"] or ():
        st.html(markup.notice(f"▲ {warning}", tone="warn"))
    open_link(
        view, "performance", "How long it usually takes", icon=":material/bar_chart:", service=row["service"],
        operation=row["operation"],
    )  # fmt: skip
    st.html(markup.pairs(_attributes(row["attributes"])) if row["attributes"] else "<small>No attributes.</small>")
    events = row["events"] or []
    if events:
        st.html(markup.section("Events"))
        for event in events:
            offset = duration_text(event["time_ns"] - row["start_ns"])
            st.html(markup.pairs([(f"+{offset}", event["name"]), *_attributes(event.get("attributes") or {})]))
    links = row["links"] or []
    if links:
        st.html(markup.section("Links"))
        for link in links:
            open_link(view, "traces", f"Trace {link['trace_id']}", trace=link["trace_id"], span=link["span_id"])
    about = [
        ("Span id", markup.code(bytes(row["span_id"]).hex())),
        ("Parent", markup.code(bytes(row["parent_span_id"]).hex()) if row["parent_span_id"] else "none"),
        ("Clock", f"corrected by {duration_text(row['skew_ns'])}" if row["skew_ns"] else "as sent"),
    ]
    if row["scope_name"]:
        about.append(("Library", f"{row['scope_name']} {row['scope_version'] or ''}"))
    with st.expander("Resource and ids"):
        st.html(markup.pairs([*about, *_attributes(row["resource"] or {})]))


def _attributes(values: Mapping[str, Any]) -> list[tuple[markup.Text, markup.Text]]:
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in sorted(values.items())]


def _time_by_service(spans: list[TimelineSpan], trace: Row) -> None:
    st.html(markup.section("Where the time went"))
    whole = max(trace["duration_ns"], 1)
    st.html(
        markup.table(
            ("Service", "Critical path", "", "Own time", "Spans"),
            [
                (
                    service,
                    markup.share_bar(critical / whole),
                    percent_text(critical / whole),
                    duration_text(own),
                    str(count),
                )
                for service, count, own, critical in time_by_service(spans)
            ],
            numeric=(2, 3, 4),
        )
    )
