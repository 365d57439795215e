"""Service flow: who calls whom, and where it hurts."""

import streamlit as st

from dashboard import markup
from dashboard.components import mounts
from dashboard.figures.palette import GLYPHS, grade_of_error_rate
from dashboard.figures.service_flow import ServiceEdge, ServiceNode, compared_edges, flow_drawing
from dashboard.formats import MISSING, change_text, count_text, counted, duration_text, percent_text, rate_text
from dashboard.pages.elements import no_data, open_link
from dashboard.queries import service_flow as queries
from dashboard.queries import statistics
from dashboard.time_range import DAY_NS, TimeRange
from dashboard.view import View, choice, select, set_params, toggle

_COMPARISONS = {"": "Now", "before": "vs. range before", "yesterday": "vs. yesterday", "week": "vs. last week"}
_SHOWN_NODES = 100


def show(view: View) -> None:
    """The graph, what changed in it, and the chosen service's callers and callees."""
    before = _earlier(view.span, view.param("compare"))
    view.expect(
        queries.usual_calls(view.span.end_ns),
        *(ask(before) for ask in (queries.dependencies, queries.hop_p95) if before),
    )
    calls, hops, totals, health = view.all_rows(
        queries.dependencies(view.span),
        queries.hop_p95(view.span),
        statistics.service_totals(view.span),
        queries.health(view.span),
    )
    edges = queries.edges_of(calls, hops)
    nodes = queries.nodes_of(totals, health, edges, view.span)
    called = sum(edge.calls for edge in edges)
    summary = f"{counted(len(nodes), 'node')}, {rate_text(called / view.span.seconds)} calls between them"
    st.html(markup.title("Service flow", summary if nodes else ""))
    if not nodes:
        no_data(view, "No calls between services in this range.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        with st.container(width=280):
            chosen = select("Service", "service", [node.name for node in nodes], empty="All services")
        comparison = choice("Compare", "compare", _COMPARISONS, "")
        hide_peers = toggle("Services only", "services_only", help="Leave out databases, queues and external peers.")
    if before:
        past = queries.edges_of(*view.all_rows(queries.dependencies(before), queries.hop_p95(before)))
        edges = compared_edges(edges, past)
    if hide_peers:
        kept = {node.name for node in nodes if node.kind == "service"}
        nodes = [node for node in nodes if node.name in kept]
        edges = [edge for edge in edges if edge.caller in kept and edge.callee in kept]
    near = view.param("around") == "1" and chosen
    if near:
        edges = [edge for edge in edges if chosen in (edge.caller, edge.callee)]
        kept = {chosen, *(name for edge in edges for name in (edge.caller, edge.callee))}
        nodes = [node for node in nodes if node.name in kept]
    if len(nodes) > _SHOWN_NODES and not chosen:
        st.caption(f"{len(nodes)} services: choose one to see its neighbours larger.")
    usual = [] if near or hide_peers else view.rows(queries.usual_calls(view.span.end_ns))
    drawing = flow_drawing(
        nodes, edges, view.span.seconds, view.palette, chosen, [(row["caller"], row["callee"]) for row in usual]
    )
    picked = mounts.service_flow(drawing, key="flow")
    if picked is not None and picked != chosen:
        set_params(service=picked, around="")
        st.rerun()
    st.caption(
        f"{GLYPHS['good']} well · {GLYPHS['warn']} worth a look · {GLYPHS['bad']} failing · {GLYPHS['unknown']}"
        " unknown. Line width is traffic, labels are p95. Click or press Enter on a service for its calls."
    )
    if comparison:
        _changes(edges, _COMPARISONS[comparison])
    if chosen:
        _details(view, chosen, nodes, edges)
    else:
        _calls(edges, view.span, "All calls")


def _earlier(span: TimeRange, comparison: str) -> TimeRange | None:
    back = {"before": span.duration_ns, "yesterday": DAY_NS, "week": 7 * DAY_NS}.get(comparison)
    return span.shifted(-back) if back else None


def _changes(edges: list[ServiceEdge], against: str) -> None:
    changed = [edge for edge in edges if edge.change]
    st.html(markup.section("What changed", against))
    if not changed:
        st.html(markup.notice("Nothing changed.", "No call is new or gone, none is much slower or failing more."))
        return
    order = ("failing", "slower", "new", "gone", "faster")
    tones: dict[str, markup.Tone] = {"failing": "bad", "slower": "warn", "new": "", "gone": "muted", "faster": "good"}
    st.html(
        markup.table(
            ("Change", "Caller", "Callee", "p95 now", "Before", "Errors"),
            [
                (
                    markup.toned(edge.change, tones[edge.change]),
                    edge.caller,
                    edge.callee,
                    MISSING if edge.change == "gone" else duration_text(edge.typical_ns),
                    f"{duration_text(edge.p95_before_ns)} {change_text(edge.typical_ns, edge.p95_before_ns)}",
                    percent_text(edge.error_ratio),
                )
                for edge in sorted(changed, key=lambda edge: (order.index(edge.change), -edge.calls))[:60]
            ],
            numeric=(3, 4, 5),
        )
    )


def _details(view: View, chosen: str, nodes: list[ServiceNode], edges: list[ServiceEdge]) -> None:
    node = next((node for node in nodes if node.name == chosen), None)
    st.html(markup.section(chosen[:80], node.kind if node and node.kind != "service" else ""))
    if node is None:
        st.html(markup.notice(f"{chosen} was not seen in this range.", "Choose a longer range, or another service."))
        return
    tone: markup.Tone = node.grade if node.grade != "unknown" else ""
    health = MISSING if node.health is None else f"{GLYPHS[node.grade]} {node.health:.0f}"
    st.html(
        markup.facts(
            [
                markup.Fact("Health", health, "of 100" if node.health is not None else "", tone),
                markup.Fact("Traffic", rate_text(node.rate)),
                markup.Fact("Errors", percent_text(node.error_ratio)),
                markup.Fact("p95", duration_text(node.p95_ns)),
            ]
        )
    )
    if node.reason:
        st.html(markup.notice(node.reason, tone=tone or "muted"))
    with st.container(horizontal=True):
        open_link(view, "traces", "Its traces", service=chosen)
        open_link(view, "traces", "Its failed traces", service=chosen, status="error")
        toggle("Neighbours only", "around")
    _calls([edge for edge in edges if chosen in (edge.caller, edge.callee)], view.span, "Its calls")


def _calls(edges: list[ServiceEdge], span: TimeRange, name: str) -> None:
    if not edges:
        st.html(markup.notice("No calls between services in this range."))
        return
    st.html(markup.section(name, "the slowest p95 first"))
    slowest = sorted(edges, key=lambda edge: -(edge.typical_ns or 0))[:100]
    st.html(
        markup.table(
            ("Caller", "Callee", "Kind", "Calls", "Rate", "Errors", "p95", "Network gap"),
            [
                (
                    edge.caller,
                    edge.callee,
                    edge.callee_type,
                    count_text(round(edge.calls)),
                    rate_text(edge.calls / span.seconds),
                    _graded(edge.error_ratio),
                    duration_text(edge.typical_ns),
                    duration_text(edge.gap_ns),
                )
                for edge in slowest
            ],
            numeric=(3, 4, 5, 6, 7),
        )
    )


def _graded(ratio: float | None) -> markup.Text:
    grade = grade_of_error_rate(ratio)
    text = percent_text(ratio)
    return markup.toned(f"{GLYPHS[grade]} {text}", grade) if grade in ("warn", "bad") else text
