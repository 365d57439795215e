"""What every chart shares: a quiet frame, the viewer's clock on the axis, hover texts that cannot be markup."""

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from math import log10
from typing import Any, Final

import plotly.graph_objects as go

from dashboard.figures.palette import Palette
from dashboard.formats import duration_text, local_time
from dashboard.time_range import TimeRange

FONT: Final = '"Source Sans", "Source Sans Pro", system-ui, sans-serif'
#: Plotly's own buttons would crowd a small chart; zoom is by dragging, reset by double click.
CONFIG: Final[dict[str, Any]] = {"displayModeBar": False, "scrollZoom": False, "responsive": True}

_DECADES_NS: Final = tuple(step * 10**power for power in range(3, 13) for step in (1, 3))

#: How the clock reads on an axis, by the step between two ticks (ms).
_CLOCK_STOPS: Final = (
    {"dtickrange": [None, 1000], "value": "%H:%M:%S.%L"},
    {"dtickrange": [1000, 60000], "value": "%H:%M:%S"},
    {"dtickrange": [60000, 86400000], "value": "%H:%M\n%b %-d"},
    {"dtickrange": [86400000, None], "value": "%b %-d"},
)


def figure(palette: Palette, height: int, *, legend: bool = False) -> go.Figure:
    """An empty chart in the house's look; ``height`` in pixels.

    All of the look goes into the constructor: plotly takes ten times as long to update a layout as to make one.
    """
    axis = {
        "gridcolor": palette.line,
        "zerolinecolor": palette.line,
        "linecolor": palette.line,
        "tickfont": {"color": palette.muted, "size": 11},
        "title": None,
        "automargin": True,
        "fixedrange": False,
    }
    made = go.Figure(
        layout={
            "height": height,
            "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": FONT, "size": 12, "color": palette.ink},
            "showlegend": legend,
            "legend": {
                "orientation": "h",
                "y": 1.02,
                "yanchor": "bottom",
                "x": 0,
                "font": {"color": palette.muted, "size": 12},
            },
            "hoverlabel": {
                "bgcolor": palette.surface,
                "bordercolor": palette.line,
                "font": {"family": FONT, "size": 12, "color": palette.ink},
                "align": "left",
            },
            "hovermode": "closest",
            "dragmode": "zoom",
            "bargap": 0.08,
            "xaxis": axis | {"showgrid": False},
            "yaxis": axis,
        }
    )
    made.layout.template = None
    return made


def over_time(chart: go.Figure, span: TimeRange, zone: tzinfo) -> go.Figure:
    """Give ``chart`` the range as its x axis, on the viewer's clock."""
    axis = chart.layout.xaxis
    axis.type = "date"
    axis.range = [local_time(span.start_ns, zone), local_time(span.end_ns, zone)]
    axis.tickformatstops = _CLOCK_STOPS
    axis.nticks = 8
    return chart


def duration_axis(chart: go.Figure, durations_ns: Sequence[float], *, log: bool = True) -> go.Figure:
    """Give ``chart`` a y axis of durations with ticks that read as durations."""
    positive = [duration for duration in durations_ns if duration and duration > 0]
    if not positive:
        chart.update_yaxes(showticklabels=False)
        return chart
    low, high = min(positive), max(positive)
    if log:
        ticks = [tick for tick in _DECADES_NS if low / 3 <= tick <= high * 3]
        chart.update_yaxes(
            type="log",
            range=[log10(max(low * 0.7, 1)), log10(high * 1.5)],
            tickvals=ticks,
            ticktext=[duration_text(tick) for tick in ticks],
        )
    else:
        step = _round_step(high / 4)
        ticks = [step * index for index in range(6) if step * index <= high * 1.15]
        chart.update_yaxes(
            range=[0, high * 1.12], tickvals=ticks, ticktext=[duration_text(tick) if tick else "0" for tick in ticks]
        )
    return chart


def times(values_ns: Sequence[int], zone: tzinfo) -> list[datetime]:
    """Moments on the viewer's clock."""
    return [local_time(value, zone) for value in values_ns]


def layout_of(chart: go.Figure) -> Mapping[str, Any]:
    """The chart's layout as plain values: what a test looks at."""
    layout: Mapping[str, Any] = chart.to_plotly_json()["layout"]
    return layout


def _round_step(step: float) -> float:
    magnitude = 10 ** int(log10(max(step, 1)))
    return next((factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= step), step)
