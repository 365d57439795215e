"""Pipeline: can the picture be trusted?"""

import streamlit as st

from dashboard import markup, rooms
from dashboard.figures.palette import GLYPHS
from dashboard.figures.storing import delay_chart, throughput_chart
from dashboard.formats import ago_text, count_text, counted, duration_text, percent_text, rate_text
from dashboard.pages.elements import chart, no_data
from dashboard.queries import pipeline as queries
from dashboard.queries.query import Row, nanoseconds
from dashboard.time_range import SECOND_NS
from dashboard.view import View, alert_state, room_metrics

_POINTS = 80


def show(view: View) -> None:
    """Completeness and delay of the range, then each room's own figures."""
    st.html(markup.title("Pipeline", "can the picture be trusted?"))
    steps, delays = view.all_rows(queries.storing(view.span, _POINTS), queries.delays(view.span, _POINTS))
    whole = queries.summed_steps(steps)
    metrics = {name: room_metrics(name) for name in queries.FIGURES}
    _verdict(whole, delays, metrics)
    if whole["traces"]:
        _traces(view, whole)
        _charts(view, steps, delays)
    else:
        no_data(view, "No traces in this range.")
    _rooms(view, metrics)
    _offsets(view)


def _verdict(whole: dict[str, int], delays: list[Row], metrics: dict[str, rooms.RoomMetrics]) -> None:
    doubts = [f"{name} does not answer" for name, room in metrics.items() if room.failure]
    if alert_state().connection == "away":
        doubts.append("the alert feed is away")
    for name, figures in queries.FIGURES.items():
        for each in figures:
            value = metrics[name].figures.get(each.metric, 0.0)
            if each.worries(value):
                doubts.append(f"{each.worry.rstrip('.')} ({count_text(value)})")
    traces = whole["traces"]
    if traces and whole["incomplete"] / traces > 0.02:
        doubts.append(f"{percent_text(whole['incomplete'] / traces)} of the traces are incomplete")
    if delays and delays[-1]["delay_p95_s"] > 60:
        late = duration_text(delays[-1]["delay_p95_s"] * SECOND_NS)
        doubts.append(f"traces are stored {late} after their last span")
    if doubts:
        st.html(
            markup.notice(
                f"{GLYPHS['warn']} With care: {counted(len(doubts), 'doubt')}.", "; ".join(doubts) + ".", tone="warn"
            )
        )
    else:
        st.html(
            markup.notice(f"{GLYPHS['good']} Yes.", "Everything answers, nothing was lost, nothing waits.", tone="good")
        )


def _traces(view: View, whole: dict[str, int]) -> None:
    traces = whole["traces"]

    def share(column: str) -> str:
        return percent_text(whole[column] / traces)

    st.html(
        markup.facts(
            [
                markup.Fact("Traces stored", count_text(traces), rate_text(traces / view.span.seconds)),
                markup.Fact("Spans stored", count_text(whole["spans"]), rate_text(whole["spans"] / view.span.seconds)),
                markup.Fact("Complete", percent_text(1 - whole["incomplete"] / traces)),
                markup.Fact("Without a root", share("rootless")),
                markup.Fact("With orphans", share("orphaned")),
                markup.Fact("Amended by late spans", share("amended")),
                markup.Fact("Cut short", share("cut"), "by age or size"),
                markup.Fact("Duplicates dropped", count_text(whole["duplicates"])),
            ]
        )
    )


def _charts(view: View, steps: list[Row], delays: list[Row]) -> None:
    palette = view.palette
    left, right = st.columns(2, gap="large")
    with left:
        st.html(markup.section("Spans stored", "a second"))
        step_ns = queries.storing_step_ns(view.span, _POINTS)
        made = throughput_chart(steps, step_ns, view.span, view.zone, palette)
        chart(made, "stored", "Spans stored a second, over time")
    with right:
        st.html(markup.section("Delay", "from a trace's last span at the broker to its row; p50 and p95"))
        chart(delay_chart(delays, view.span, view.zone, palette), "delay", "Delay of storing, over time")


def _rooms(view: View, metrics: dict[str, rooms.RoomMetrics]) -> None:
    for column, (name, figures) in zip(
        st.columns(len(queries.FIGURES), gap="large"), queries.FIGURES.items(), strict=True
    ):
        with column:
            room = metrics[name]
            if room.failure:
                setting = f"TRACEWATCH_DASHBOARD_{name.upper()}_URL"
                st.html(markup.section(name, "does not answer"))
                st.html(
                    markup.notice(
                        f"{GLYPHS['warn']} {room.failure[:120]}",
                        markup.joined("Check that it runs and that ", markup.code(setting), " names it."),
                        tone="warn",
                    )
                )
                continue
            st.html(markup.section(name, f"{GLYPHS['good']} answers"))
            rows = []
            for each in figures:
                if (value := room.figures.get(each.metric)) is not None:
                    rows.append((each.name, markup.toned(count_text(value), "warn" if each.worries(value) else "")))
            st.html(markup.table(("Since it started", ""), rows, numeric=(1,)))


def _offsets(view: View) -> None:
    rows = view.rows(queries.offsets())
    if not rows:
        return
    with st.expander("How far each partition is stored"):
        st.html(
            markup.table(
                ("Topic", "Partition", "Next offset", "Moved"),
                [
                    (
                        row["topic"],
                        str(row["partition"]),
                        f"{row['next_offset']:,}".replace(",", " "),
                        ago_text(view.now_ns - nanoseconds(row["updated_at"])),
                    )
                    for row in rows
                ],
                numeric=(1, 2),
            )
        )
