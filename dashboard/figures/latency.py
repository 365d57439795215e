"""How long operations took: quantiles over time, a heat map, a histogram of two ranges, an alert's evidence."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from dashboard.figures.charts import duration_axis, figure, over_time, times
from dashboard.figures.palette import Palette
from dashboard.formats import count_text, duration_text, local_time, percent_text, rate_text
from dashboard.queries.alerts import Episode, Measure
from dashboard.queries.query import nanoseconds
from dashboard.queries.statistics import Point, coarse_bounds_ns
from dashboard.time_range import TimeRange

#: Moments (Unix ns) and values; None where there is none.
Line = Sequence[tuple[int, float | None]]


def quantiles_chart(points: Sequence[Point], span: TimeRange, zone: tzinfo, palette: Palette) -> go.Figure:
    """p50, p95 and p99 as lines, told apart by dash as well as by colour; breaks where nothing happened."""
    chart = over_time(figure(palette, 270, legend=True), span, zone)
    shown = with_gaps(points)
    for name, dash, colour, values in (
        ("p99", "dot", palette.bad, [point.p99_ns for point in shown]),
        ("p95", "solid", palette.accent, [point.p95_ns for point in shown]),
        ("p50", "dash", palette.good, [point.p50_ns for point in shown]),
    ):
        chart.add_scatter(
            x=times([point.at_ns for point in shown], zone),
            y=values,
            name=name,
            mode="lines+markers" if len(shown) < 3 else "lines",
            line={"color": colour, "width": 1.8, "dash": dash},
            connectgaps=False,
            text=[duration_text(value) for value in values],
            hovertemplate=f"{name} %{{text}}<extra></extra>",
        )
    chart.update_layout(hovermode="x unified")
    every = [value for point in points for value in (point.p50_ns, point.p99_ns) if value]
    return duration_axis(chart, every)


def traffic_chart(points: Sequence[Point], span: TimeRange, zone: tzinfo, palette: Palette) -> go.Figure:
    """Spans a second as bars, the failed part of each in its own colour on top of the rest."""
    chart = over_time(figure(palette, 170, legend=True), span, zone)
    step_s = _step_ns(points, span) / 1e9
    for name, colour, values in (
        ("ok", palette.before, [(point.spans - point.errors) / step_s for point in points]),
        ("failed", palette.bad, [point.errors / step_s for point in points]),
    ):
        chart.add_bar(
            x=times([point.at_ns + int(step_s * 5e8) for point in points], zone),
            y=values,
            width=step_s * 1000 * 0.9,
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            text=[rate_text(value) for value in values],
            textposition="none",
            hovertemplate=f"{name} %{{text}}<extra></extra>",
        )
    chart.update_layout(barmode="stack", hovermode="x unified")
    chart.update_yaxes(nticks=4, rangemode="tozero")
    return chart


def heat_map(rows: Iterable[Mapping[str, Any]], span: TimeRange, zone: tzinfo, palette: Palette) -> go.Figure:
    """How many spans took how long, when: darker is more, on a square-root scale so that the few are seen too."""
    chart = over_time(figure(palette, 270), span, zone)
    cells = {(nanoseconds(row["at"]), row["coarse"]): row["count"] / 1000 for row in rows}
    if not cells:
        return duration_axis(chart, [])
    moments = sorted({at for at, _ in cells})
    step = min((later - earlier for earlier, later in pairwise(moments)), default=60 * 10**9)
    columns = list(range(moments[0], moments[-1] + 1, step))
    lowest, highest = min(coarse for _, coarse in cells), max(coarse for _, coarse in cells)
    levels = list(range(lowest, highest + 1))
    counts = [[cells.get((at, level)) for at in columns] for level in levels]
    middles = [sum(coarse_bounds_ns(level)) / 2 for level in levels]
    bounds = [_bounds_text(level) for level in levels]
    chart.add_heatmap(
        x=times([at + step // 2 for at in columns], zone),
        y=middles,
        z=[[None if count is None else count**0.5 for count in row] for row in counts],
        text=[
            # Where no span was there is no text to hover over.
            ["" if count is None else f"{between}: {count_text(count)}" for count in row]
            for between, row in zip(bounds, counts, strict=True)
        ],
        colorscale=[[place / (len(palette.heat) - 1), colour] for place, colour in enumerate(palette.heat)],
        zmin=0,
        showscale=False,
        hoverongaps=False,
        hovertemplate="%{text} spans<extra></extra>",
        xgap=0.5,
        ygap=0.5,
    )
    return duration_axis(chart, middles)


def histogram_chart(
    now: Mapping[int, float], before: Mapping[int, float], names: tuple[str, str], palette: Palette
) -> go.Figure:
    """Shares of spans by duration, of two ranges; each by coarse bucket."""
    chart = figure(palette, 250, legend=True)
    totals = (sum(now.values()) or 1, sum(before.values()) or 1)
    every = sorted({*now, *before})
    levels = list(range(every[0], every[-1] + 1)) if every else []
    middles = [sum(coarse_bounds_ns(level)) / 2 for level in levels]
    for name, counts, total, style in (
        (names[1], before, totals[1], {"color": palette.before, "width": 1.6, "dash": "dash", "shape": "hvh"}),
        (names[0], now, totals[0], {"color": palette.accent, "width": 2, "shape": "hvh"}),
    ):
        if not counts:
            continue
        shares = [counts.get(level, 0) / total for level in levels]
        chart.add_scatter(
            x=middles,
            y=shares,
            name=name,
            mode="lines",
            line=style,
            fill="tozeroy" if counts is now else None,
            text=[f"{_bounds_text(level)}: {percent_text(share)}" for level, share in zip(levels, shares, strict=True)],
            hovertemplate="%{text}<extra></extra>",
        )
    duration_axis(chart, middles)
    axis = chart.layout.yaxis
    if middles:
        ticks, texts, bounds = axis.tickvals, axis.ticktext, axis.range
        chart.update_xaxes(type="log", tickvals=ticks, ticktext=texts, range=bounds)
    chart.update_yaxes(
        type="linear", tickmode="auto", tickvals=None, ticktext=None, range=None, tickformat=".0%", nticks=5,
        rangemode="tozero",
    )  # fmt: skip
    return chart


def evidence_chart(
    lines: Mapping[str, Line], episode: Episode, span: TimeRange, zone: tzinfo, palette: Palette, now_ns: int
) -> go.Figure:
    """What an alert saw: the observed number over time, its baseline as a line, the time of trouble shaded."""
    chart = over_time(figure(palette, 270, legend=len(lines) > 1), span, zone)
    word = {"error_ratio": percent_text, "rate": rate_text}.get(episode.measure, duration_text)
    end_ns = min(episode.ends_at_ns or now_ns, span.end_ns)
    chart.add_vrect(
        x0=local_time(episode.starts_at_ns, zone),
        x1=local_time(end_ns, zone),
        fillcolor=palette.bad,
        opacity=0.1,
        line={"width": 0},
        layer="below",
    )
    known: list[float] = []
    for (name, line), (colour, dash) in zip(
        lines.items(), ((palette.accent, "solid"), (palette.good, "dot")), strict=False
    ):
        values = [value for _, value in line]
        known += [value for value in values if value is not None]
        chart.add_scatter(
            x=times([at_ns for at_ns, _ in line], zone),
            y=values,
            name=name,
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash},
            text=[word(value) for value in values],
            hovertemplate=f"{name} %{{text}}<extra></extra>",
        )
    # Counts of errors are no share of calls: only numbers of the same kind stand on the same axis.
    if episode.baseline is not None and episode.unit != "errors":
        chart.add_hline(
            y=episode.baseline,
            line={"color": palette.muted, "dash": "dash", "width": 1.4},
            annotation={"text": f"baseline {word(episode.baseline)}", "font": {"color": palette.muted, "size": 11}},
            annotation_position="top right",
        )
        known.append(episode.baseline)
    if episode.measure in ("duration", "own_time"):
        return duration_axis(chart, known, log=False)
    if episode.measure == "error_ratio":
        chart.update_yaxes(tickformat=".0%", range=[0, max([*known, 0.01]) * 1.15])
    else:
        chart.update_yaxes(rangemode="tozero", nticks=5)
    return chart


def measured_line(points: Sequence[Point], measure: Measure, span: TimeRange) -> Line:
    """The number that ``measure`` names, a value a step; breaks where nothing happened."""
    step_s = _step_ns(points, span) / 1e9
    return [(point.at_ns, _measured(point, measure, step_s)) for point in with_gaps(points)]


def with_gaps(points: Sequence[Point]) -> list[Point]:
    """The points with an empty one wherever steps are missing, so that a line breaks instead of lying."""
    step = min((later.at_ns - earlier.at_ns for earlier, later in pairwise(points)), default=0)
    shown: list[Point] = []
    for point in points:
        if shown and step and point.at_ns - shown[-1].at_ns > 2 * step:
            shown.append(Point(shown[-1].at_ns + step, 0.0, 0.0))
        shown.append(point)
    return shown


def _measured(point: Point, measure: Measure, step_s: float) -> float | None:
    if not point.spans:
        return None
    if measure == "error_ratio":
        return point.errors / point.spans
    return point.spans / step_s if measure == "rate" else point.p95_ns


def _step_ns(points: Sequence[Point], span: TimeRange) -> int:
    return min((later.at_ns - earlier.at_ns for earlier, later in pairwise(points)), default=span.step_ns(60))


def _bounds_text(coarse: int) -> str:
    low, high = coarse_bounds_ns(coarse)
    return f"{duration_text(low)} to {duration_text(high)}"
