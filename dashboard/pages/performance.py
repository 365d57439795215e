"""Performance: how long operations take, how that moved, and which of them traces wait for."""

import streamlit as st

from dashboard import markup
from dashboard import view as controls
from dashboard.components import mounts
from dashboard.figures.latency import heat_map, histogram_chart, quantiles_chart, traffic_chart
from dashboard.figures.palette import grade_of_error_rate
from dashboard.figures.pick_list import Cell, Column, pick_drawing
from dashboard.formats import change_text, count_text, duration_text, percent_text, rate_text
from dashboard.pages.elements import chart, no_data, open_link
from dashboard.queries import bottlenecks as bottleneck_queries
from dashboard.queries import statistics, traces
from dashboard.queries.query import Row
from dashboard.time_range import DAY_NS, TimeRange
from dashboard.view import View, by_name, set_params

_COMPARISONS = {"": "vs. range before", "yesterday": "vs. yesterday", "week": "vs. last week"}
_POINTS = 90
#: A p95 that moved by this factor is worth a colour.
_SLOWER_BY = 1.3
_COLUMNS = (
    Column("Operation", "minmax(160px, 3fr)", main=True),
    Column("Kind", "76px"),
    *(Column(name, "minmax(64px, 96px)", numeric=True) for name in ("Rate", "Errors", "p50", "p95", "p99")),
    Column("p95 moved", "86px", numeric=True),
)
_KINDS = ("", "internal", "server", "client", "producer", "consumer")


def show(view: View) -> None:
    """One service or operation over time, then all operations, then the bottlenecks."""
    heading = st.empty()
    comparison = comparison if (comparison := view.param("compare")) in _COMPARISONS else ""
    before = _earlier(view.span, comparison)
    # The longest questions, and they ask for no service: they are begun before it is known which one is the busiest.
    view.expect(*(bottleneck_queries.critical_shares(span) for span in (view.span, before)))
    service, operation = _filters(view)
    if not service:
        heading.html(markup.title("Performance"))
        no_data(view, "No spans in this range.")
        return
    heading.html(markup.title("Performance", f"{service} · {operation}" if operation else f"what {service} served"))
    view.expect(
        statistics.operation_series(view.span, service, operation, _POINTS),
        statistics.distribution(before, service, operation),
        *(statistics.operations_table(span, service) for span in (view.span, before)),
    )
    steps = view.rows(statistics.operation_series(view.span, service, operation, _POINTS))
    if steps:
        _charts(view, service, operation, steps, before, _COMPARISONS[comparison])
    else:
        st.html(markup.notice("No such spans in this range.", "Choose another operation or a longer range."))
    _operations(view, service, before)
    _bottlenecks(view, before, _COMPARISONS[comparison])


def _filters(view: View) -> tuple[str, str]:
    busiest = by_name(view.rows(statistics.services_by_traffic(view.span)), "service")
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters", gap="small"):
        with st.container(width=240):
            service = controls.select("Service", "service", sorted(busiest), empty="The busiest")
        service = service or (busiest[0] if busiest else "")
        with st.container(width=320):
            known = by_name(view.rows(traces.operations(view.span, service)), "operation") if service else []
            operation = controls.select("Operation", "operation", known, empty="All it served")
        controls.choice("Compare", "compare", _COMPARISONS, "")
    return service, operation


def _earlier(span: TimeRange, comparison: str) -> TimeRange:
    return span.shifted(-{"yesterday": DAY_NS, "week": 7 * DAY_NS}.get(comparison, span.duration_ns))


def _charts(view: View, service: str, operation: str, steps: list[Row], before: TimeRange, against: str) -> None:
    palette = view.palette
    points, cells = statistics.points_of(steps), statistics.heat_of(steps)
    left, right = st.columns(2, gap="large")
    with left:
        st.html(markup.section("Duration", "p50, p95, p99"))
        figure = quantiles_chart(points, view.span, view.zone, palette)
        chart(figure, "quantiles", f"Quantiles of the duration of {service} over time")
        st.html(markup.section("Traffic", "calls a second, failed ones apart"))
        chart(traffic_chart(points, view.span, view.zone, palette), "traffic", f"Calls of {service} over time")
    with right:
        st.html(markup.section("Every call", "the stronger the colour, the more calls"))
        chart(heat_map(cells, view.span, view.zone, palette), "heat", f"Heat map of the durations of {service}")
        st.html(markup.section("Distribution", against))
        now, past = map(
            statistics.counts_by_level, (cells, view.rows(statistics.distribution(before, service, operation)))
        )
        figure = histogram_chart(now, past, ("this range", against.removeprefix("vs. ")), palette)
        figure.update_layout(height=170)
        chart(figure, "histogram", f"Distribution of the durations of {service}, two ranges")
    with st.container(horizontal=True):
        open_link(view, "traces", "Its slowest traces", service=service, operation=operation, order="slowest")
        open_link(view, "flow", "Its calls", service=service)


def _operations(view: View, service: str, before: TimeRange) -> None:
    st.html(markup.section(f"Operations of {service[:60]}", "choose one to see it above"))
    rows = view.rows(statistics.operations_table(view.span, service))
    past = {
        (row["operation"], row["kind"]): row["p95_ns"]
        for row in view.rows(statistics.operations_table(before, service))
    }
    chosen = view.param("operation")
    drawing = pick_drawing(
        _COLUMNS,
        [(row["operation"], _cells(row, past.get((row["operation"], row["kind"])), view.span.seconds)) for row in rows],
        view.palette,
        chosen,
    )
    picked = mounts.pick_list(drawing, key=f"operations-{service}")
    if picked:
        set_params(service=service, operation="" if picked == chosen else picked)
        st.rerun()


def _cells(row: Row, p95_before_ns: float | None, seconds: float) -> tuple[Cell, ...]:
    ratio = row["errors"] / row["spans"] if row["spans"] else None
    grade = grade_of_error_rate(ratio)
    moved = row["p95_ns"] / p95_before_ns if row["p95_ns"] and p95_before_ns else 1.0
    return (
        Cell(row["operation"]),
        Cell(_KINDS[row["kind"]] if 0 <= row["kind"] < len(_KINDS) else "", tone="muted"),
        Cell(rate_text(row["spans"] / seconds), sort=row["spans"]),
        Cell(percent_text(ratio), tone=grade if grade in ("warn", "bad") else "", sort=ratio or 0.0),
        *(Cell(duration_text(row[name]), sort=row[name] or 0.0) for name in ("p50_ns", "p95_ns", "p99_ns")),
        Cell(
            change_text(row["p95_ns"], p95_before_ns),
            tone="bad" if moved >= _SLOWER_BY else "good" if moved <= 1 / _SLOWER_BY else "muted",
            sort=moved,
        ),
    )


def _bottlenecks(view: View, before: TimeRange, against: str) -> None:
    now, past = (view.rows(bottleneck_queries.critical_shares(span)) for span in (view.span, before))
    found = bottleneck_queries.bottlenecks(now, past)
    read = now[0]["traces"] if now else 0
    st.html(
        markup.section("Bottlenecks", f"share of the critical path of {count_text(read)} sampled traces, {against}")
    )
    if not found:
        st.html(markup.notice("No critical path is known in this range."))
        return
    st.html(
        markup.table(
            ("What traces wait for", "", "Share", "", "Moved"),
            [
                (
                    each.service,
                    f"network to {each.callee} ({each.operation})" if each.callee else each.operation,
                    percent_text(each.share),
                    markup.share_bar(each.share),
                    _moved(each),
                )
                for each in found[:15]
            ],
            numeric=(2, 4),
        )
    )


def _moved(each: bottleneck_queries.Bottleneck) -> markup.Text:
    if each.share_before is None:
        return ""
    moved = (each.share - each.share_before) * 100
    if abs(moved) < 0.5:
        return "±0"
    text = f"{'+' if moved > 0 else '−'}{abs(moved):.1f} points"  # noqa: RUF001
    return markup.toned(text, "bad" if moved >= 5 else "good" if moved <= -5 else "")
