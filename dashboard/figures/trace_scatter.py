"""Traces as dots, duration over time: failed ones stand out by shape as well as by colour."""

from collections.abc import Iterable, Mapping
from datetime import tzinfo
from typing import Any

import plotly.graph_objects as go

from dashboard.figures.charts import duration_axis, figure, over_time, times
from dashboard.figures.palette import Palette
from dashboard.formats import duration_text, plain
from dashboard.time_range import TimeRange


def trace_scatter(rows: Iterable[Mapping[str, Any]], span: TimeRange, zone: tzinfo, palette: Palette) -> go.Figure:
    """A dot a trace; each carries its trace id (hex) as custom data. ``rows`` as ``queries.traces.scattered`` gives."""
    dots = list(rows)
    chart = over_time(figure(palette, 250, legend=True), span, zone)
    for name, failed, symbol, colour, size in (
        ("ok", False, "circle", palette.accent, 5),
        ("with errors", True, "square", palette.bad, 7),
    ):
        chosen = [row for row in dots if bool(row["error_count"]) is failed]
        chart.add_scatter(
            x=times([row["start_ns"] for row in chosen], zone),
            y=[max(row["duration_ns"], 1) for row in chosen],
            customdata=[bytes(row["trace_id"]).hex() for row in chosen],
            text=[_hover(row) for row in chosen],
            mode="markers",
            name=name,
            marker={"symbol": symbol, "color": colour, "size": size, "opacity": 0.6, "line": {"width": 0}},
            hovertemplate="%{text}<extra></extra>",
        )
    chart.update_layout(dragmode="select", clickmode="event+select", selectdirection="h")
    return duration_axis(chart, [row["duration_ns"] for row in dots])


def _hover(row: Mapping[str, Any]) -> str:
    title = f"<b>{plain(row['root_service'], 40)}</b> {plain(row['root_operation'], 60)}"
    errors = f", {row['error_count']} failed" if row["error_count"] else ""
    return f"{title}<br>{duration_text(row['duration_ns'])}, {row['span_count']} spans{errors}"
