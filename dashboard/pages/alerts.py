"""Alerts: what fires, as it happens; what fired, with its evidence; silences, replays."""

from datetime import datetime, timedelta

import streamlit as st

from dashboard import markup, rooms
from dashboard import view as controls
from dashboard.components import mounts
from dashboard.figures.latency import evidence_chart, measured_line
from dashboard.figures.palette import GLYPHS
from dashboard.figures.pick_list import Cell, Column, pick_drawing
from dashboard.formats import clock_text, duration_text, moment_text
from dashboard.pages import replays
from dashboard.pages.elements import alert_line, alert_row, chart, measured_text, open_link
from dashboard.queries import alerts as queries
from dashboard.queries import statistics
from dashboard.queries.query import nanoseconds
from dashboard.time_range import SECOND_NS, TimeRange, iso_of
from dashboard.view import View, alert_state, set_params

#: A new alert is on the screen within this: the feed is looked at so often. Nothing is asked of a server meanwhile.
_LOOK_EVERY_S = 0.5
_SEVERITIES = {"critical": "Critical", "warning": "Warning", "info": "Info"}
_COLUMNS = (
    Column("State", "92px"),
    Column("Alert", "minmax(200px, 3fr)", main=True),
    Column("Severity", "74px"),
    Column("Evidence", "minmax(130px, 1.2fr)"),
    Column("Began", "104px"),
    Column("Lasted", "96px", numeric=True),
    Column("Told after", "84px", numeric=True),
)
_POINTS = 90
_MEASURES = {"duration": "p95", "error_ratio": "share of failed calls", "rate": "calls a second"}
_TABS = {"": "Live", "history": "History", "replays": "Replays and back-tests"}


def show(view: View) -> None:
    """The chosen alert, and one of three lists."""
    st.html(markup.title("Alerts"))
    if view.param("alert"):
        _one(view, view.param("alert"))
    shown = controls.choice("Which alerts", "show", _TABS, "")
    if shown == "history":
        _history(view)
    elif shown == "replays":
        replays.show(view)
    else:
        _live(view)


def _live(view: View) -> None:
    @st.fragment(run_every=timedelta(seconds=_LOOK_EVERY_S))
    def board() -> None:
        state = alert_state()
        words = {
            "live": (f"{GLYPHS['good']} live", "good"),
            "connecting": (f"{GLYPHS['unknown']} connecting to the alert feed", "muted"),
            "away": (f"{GLYPHS['warn']} the alert feed is away; trying again", "warn"),
        }[state.connection]
        count = f", {len(state.firing)} firing" if state.connection == "live" else ""
        pieces = [
            f'<div class="live" data-connection="{state.connection}">'
            f'<span class="{words[1]}">{words[0]}</span>{count}</div>'
        ]
        if state.gap:
            pieces.append(markup.notice("Some events were missed.", state.gap, tone="warn"))
        now = view.at_this_moment()
        firing = [queries.episode_of(alert) for alert in state.firing]
        events = [queries.episode_of(alert) for alert in state.events[:25]]
        if state.connection == "away":
            setting = markup.code("TRACEWATCH_DASHBOARD_LIVE_API_URL")
            advice = markup.joined("Check that live_api runs and that ", setting, " names it. The history goes on.")
            pieces.append(markup.notice("The alert feed does not answer.", advice, tone="warn"))
            firing = queries.episodes_of(view.rows(queries.firing()))
            if firing:
                pieces.append(markup.section("Firing when last stored"))
        pieces += [alert_row(now, episode) for episode in firing]
        if not firing and state.connection == "live":
            pieces.append(
                markup.notice(f"{GLYPHS['good']} Nothing fires.", "New alerts appear here by themselves.", tone="good")
            )
        if events:
            pieces.append(markup.section("Latest events", "since this dashboard started"))
            pieces += [alert_row(now, episode) for episode in events]
        st.html("".join(pieces))

    board()


def _history(view: View) -> None:
    episodes = queries.episodes_of(view.rows(queries.episodes(view.span)))
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters", gap="small"):
        with st.container(width=240):
            services = sorted({episode.service for episode in episodes})
            service = controls.select("Service", "service", services, empty="All")
        with st.container(width=180):
            severity = controls.select("Severity", "severity", list(_SEVERITIES), empty="Any", texts=_SEVERITIES)
        with_replays = controls.toggle("Replays too", "with_replays")
    episodes = [
        episode
        for episode in episodes
        if (not service or episode.service == service)
        and (not severity or episode.severity == severity)
        and (with_replays or not episode.replay_id)
    ]
    if not episodes:
        st.html(markup.notice(f"{GLYPHS['good']} No alert in this range.", tone="good"))
        return
    drawing = pick_drawing(
        _COLUMNS, [(each.episode_id, _cells(view, each)) for each in episodes], view.palette, view.param("alert")
    )
    chosen = mounts.pick_list(drawing, key="history")
    if chosen:
        set_params(alert="" if chosen == view.param("alert") else chosen)
        st.rerun()


def _cells(view: View, episode: queries.Episode) -> tuple[Cell, ...]:
    tone = "bad" if episode.severity == "critical" else "warn"
    state = f"{GLYPHS['bad' if tone == 'bad' else 'warn']} firing" if episode.firing else f"{GLYPHS['good']} resolved"
    lasted_ns = max((episode.ends_at_ns or view.now_ns) - episode.starts_at_ns, 0)
    delay_ns = max(episode.detected_at_ns - episode.starts_at_ns, 0)
    where = f"{episode.service} · {episode.operation}" if episode.operation else episode.service
    return (
        Cell(state, tone=tone if episode.firing else "muted"),
        Cell(f"{episode.name}: {where}", episode.summary),
        Cell(episode.severity, tone="muted"),
        Cell(measured_text(episode.observed, episode.baseline, episode.unit), tone="muted"),
        Cell(clock_text(episode.starts_at_ns, view.zone, now_ns=view.now_ns), sort=episode.starts_at_ns),
        Cell(duration_text(lasted_ns), sort=lasted_ns),
        Cell(duration_text(delay_ns) if not episode.replay_id else "replayed", tone="muted", sort=delay_ns),
    )


def _one(view: View, episode_id: str) -> None:
    episode = _episode(view, episode_id)
    if episode is None:
        st.html(
            markup.notice(
                "This alert is not stored.", "It may be older than the retention, or not be stored yet.", tone="warn"
            )
        )
        return
    with st.container(border=True, key="alert"):
        with st.container(horizontal=True, vertical_alignment="top"):
            st.html(alert_line(episode, view.now_ns, view.zone), width="stretch")
            if st.button("Close", icon=":material/close:", type="tertiary"):
                set_params(alert="")
                st.rerun()
        if episode.description:
            st.html(markup.pairs([("What it means", episode.description)]))
        around = queries.surroundings(episode, view.now_ns)
        _evidence(view, episode, around)
        with st.container(horizontal=True):
            for number, trace_id in enumerate(reversed(episode.sample_trace_ids[-4:]), 1):
                open_link(view, "traces", f"Sample trace {number}", icon=":material/timeline:", trace=trace_id)
            fixed = {"from": iso_of(around.start_ns), "to": iso_of(around.end_ns), "range": ""}
            page, _ = view.link("flow")
            st.page_link(page, label="Service flow then", query_params={"service": episode.service, **_kept(fixed)})
            page, _ = view.link("traces")
            st.page_link(page, label="Traces then", query_params={"service": episode.service, **_kept(fixed)})
        facts = [(name, value) for name, value in sorted(episode.labels.items())]
        with st.expander("Labels and times"):
            st.html(
                markup.pairs(
                    [
                        *facts,
                        ("began", moment_text(episode.starts_at_ns, view.zone)),
                        ("detected", moment_text(episode.detected_at_ns, view.zone)),
                        ("fingerprint", markup.code(episode.fingerprint)),
                    ]
                )
            )
        if episode.firing and not episode.replay_id:
            _silence(view, episode)


def _evidence(view: View, episode: queries.Episode, around: TimeRange) -> None:
    """The number that the alert judged, over the time around it."""
    if not episode.service:
        return
    if episode.measure == "own_time":
        rows = view.rows(statistics.own_time_series(around, episode.service, _POINTS))
        lines = {
            "own time": [(nanoseconds(row["at"]), row["own_ns"]) for row in rows],
            "network to it": [(nanoseconds(row["at"]), row["gap_ns"]) for row in rows],
        }
        what = f"mean own time of {episode.service}, and of the network to it"
    else:
        series = statistics.operation_series(around, episode.service, episode.operation, _POINTS)
        points = statistics.points_of(view.rows(series))
        name = _MEASURES[episode.measure]
        lines = {name: measured_line(points, episode.measure, around)} if points else {}
        what = f"{name} of {episode.operation or episode.service}"
    if not any(value is not None for line in lines.values() for _, value in line):
        return
    st.html(markup.section("Evidence", f"{what}; shaded while it fired"))
    figure = evidence_chart(lines, episode, around, view.zone, view.palette, view.now_ns)
    chart(figure, "evidence", f"{what}, around the alert")


def _kept(params: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


def _episode(view: View, episode_id: str) -> queries.Episode | None:
    key = queries.episode_key(episode_id)
    if key is None:
        return None
    for alert in (*alert_state().firing, *alert_state().events):
        live = queries.episode_of(alert)
        if live.episode_id == episode_id:
            return live
    stored = queries.episodes_of(view.rows(queries.one_episode(*key)))
    return stored[0] if stored else None


def _silence(view: View, episode: queries.Episode) -> None:
    with st.expander("Silence", icon=":material/notifications_off:"), st.form("silence", border=False):
        st.caption("No notification goes out for alerts with all of these labels until the time is over.")
        names = [name for name in ("alertname", "service", "operation", "severity") if episode.labels.get(name)]
        matched = st.multiselect(
            "Labels",
            sorted(episode.labels),
            default=names,
            format_func=lambda name: f"{name}={episode.labels[name]}"[:60],
        )
        hours = st.select_slider(
            "For",
            options=[0.5, 1, 2, 4, 8, 24, 72],
            value=2,
            format_func=lambda value: duration_text(value * 3600 * SECOND_NS),
        )
        author = st.text_input("Your name")
        comment = st.text_input("Why", placeholder="deploy of payment 4.2 in progress")
        if st.form_submit_button("Silence", type="primary"):
            if not (matched and author and comment):
                st.html(markup.notice("Choose a label at least, and say who you are and why.", tone="warn"))
                return
            now = datetime.now(tz=view.zone)
            failure = rooms.create_silence(
                view.settings.live_api_url,
                view.settings.live_api_token.get_secret_value(),
                {
                    "matchers": [{"name": name, "value": episode.labels[name]} for name in matched],
                    "ends_at": (now + timedelta(hours=float(hours))).isoformat(),
                    "created_by": author,
                    "comment": comment,
                },
            )
            if failure:
                st.html(markup.notice("It is not silenced.", failure, tone="bad"))
            else:
                st.html(markup.notice(f"Silenced for {duration_text(float(hours) * 3600 * SECOND_NS)}.", tone="good"))
