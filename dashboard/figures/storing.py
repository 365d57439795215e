"""How much is stored, and how soon."""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

import plotly.graph_objects as go

from dashboard.figures.charts import figure, over_time, times
from dashboard.figures.palette import Palette
from dashboard.formats import duration_text, rate_text
from dashboard.queries.query import nanoseconds
from dashboard.time_range import SECOND_NS, TimeRange

_HEIGHT = 190


def throughput_chart(
    steps: Sequence[Mapping[str, Any]], step_ns: int, span: TimeRange, zone: tzinfo, palette: Palette
) -> go.Figure:
    """Spans stored a second, a bar a step; ``steps`` as ``queries.pipeline.storing`` gives."""
    chart = over_time(figure(palette, _HEIGHT), span, zone)
    rates = [row["spans"] * SECOND_NS / step_ns for row in steps]
    chart.add_bar(
        x=times([nanoseconds(row["at"]) + step_ns // 2 for row in steps], zone),
        y=rates,
        width=step_ns / 1e6 * 0.9,
        marker={"color": palette.accent, "line": {"width": 0}},
        opacity=0.75,
        text=[rate_text(rate) for rate in rates],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    chart.update_yaxes(rangemode="tozero", nticks=4)
    return chart


def delay_chart(steps: Sequence[Mapping[str, Any]], span: TimeRange, zone: tzinfo, palette: Palette) -> go.Figure:
    """Seconds from a trace's last span to its row, p50 and p95."""
    chart = over_time(figure(palette, _HEIGHT, legend=True), span, zone)
    for name, column, dash in (("p95", "delay_p95_s", "solid"), ("p50", "delay_p50_s", "dash")):
        delays = [row[column] for row in steps]
        chart.add_scatter(
            x=times([nanoseconds(row["at"]) for row in steps], zone),
            y=delays,
            name=name,
            mode="lines+markers" if len(steps) < 3 else "lines",
            line={"color": palette.accent, "dash": dash, "width": 1.8},
            text=[duration_text(delay * SECOND_NS) for delay in delays],
            hovertemplate=f"{name} %{{text}}<extra></extra>",
        )
    chart.update_yaxes(ticksuffix=" s", rangemode="tozero", nticks=5)
    return chart
