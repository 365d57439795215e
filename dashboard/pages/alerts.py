"""Alerts: what fires, as it happens; what fired, with its evidence; silences, replays."""

from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboard import markup, rooms
from dashboard import view as controls
from dashboard.figures.latency import evidence_chart
from dashboard.figures.palette import GLYPHS
from dashboard.formats import clock_text, count_text, duration_text, moment_text
from dashboard.pages.elements import alert_line, chart, evidence_text, open_link
from dashboard.queries import alerts as queries
from dashboard.queries import statistics
from dashboard.queries.query import Row
from dashboard.time_range import SECOND_NS, iso_of
from dashboard.view import View, alert_state, set_params

#: A new alert is on the screen within this: the feed is looked at so often. Nothing is asked of a server meanwhile.
_LOOK_EVERY_S = 0.5
_SEVERITIES = {"critical": "Critical", "warning": "Warning", "info": "Info"}
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
        _replays(view)
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
        count = f"{len(state.firing)} firing"
        pieces = [
            f'<div class="live" data-connection="{state.connection}">'
            f'<span class="{words[1]}">{words[0]}</span>, {count}</div>'
        ]
        if state.gap:
            pieces.append(markup.notice("Some events were missed.", state.gap, tone="warn"))
        now_ns = view.now_ns
        firing = [queries.episode_of(alert) for alert in state.firing]
        events = [queries.episode_of(alert) for alert in state.events[:25]]
        if state.connection == "away":
            setting = markup.code("TRACEWATCH_DASHBOARD_LIVE_API_URL")
            advice = markup.joined("Check that live_api runs and that ", setting, " names it. The history goes on.")
            pieces.append(markup.notice("The alert feed does not answer.", advice, tone="warn"))
        pieces += [_row(view, episode, now_ns) for episode in firing]
        if not firing and state.connection == "live":
            pieces.append(
                markup.notice(f"{GLYPHS['good']} Nothing fires.", "New alerts appear here by themselves.", tone="good")
            )
        if events:
            pieces.append(markup.section("Latest events", "since this dashboard started"))
            pieces += [_row(view, episode, now_ns) for episode in events]
        st.html("".join(pieces))

    board()


def _row(view: View, episode: queries.Episode, now_ns: int) -> str:
    address = markup.address("alerts", view.span.as_params() | {"alert": episode.episode_id})
    return f'<a class="alert-row" href="{address}" target="_self">{alert_line(episode, now_ns, view.zone)}</a>'


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
    now_ns = view.now_ns
    table = {
        "State": ["firing" if episode.firing else "resolved" for episode in episodes],
        "Severity": [episode.severity for episode in episodes],
        "Alert": [episode.name for episode in episodes],
        "Service": [episode.service for episode in episodes],
        "Operation": [episode.operation for episode in episodes],
        "Summary": [episode.summary for episode in episodes],
        "Evidence": [evidence_text(episode) for episode in episodes],
        "Began": [clock_text(episode.starts_at_ns, view.zone, now_ns=now_ns) for episode in episodes],
        "Lasted": [duration_text((episode.ends_at_ns or now_ns) - episode.starts_at_ns) for episode in episodes],
        "Detected after": [
            duration_text(max(episode.detected_at_ns - episode.starts_at_ns, 0)) for episode in episodes
        ],
    }
    picked = st.dataframe(
        table, hide_index=True, on_select="rerun", selection_mode="single-row", key="history",
        height="content" if len(episodes) <= 12 else 520,
    )  # fmt: skip
    if picked.selection.rows:
        chosen = episodes[picked.selection.rows[0]].episode_id
        if chosen != view.param("alert"):
            set_params(alert=chosen)
            st.rerun()


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
        points = (
            statistics.points_of(view.rows(statistics.operation_series(around, episode.service, episode.operation, 90)))
            if episode.service
            else []
        )
        if points:
            measure = {"duration": "p95", "error_ratio": "share of failed calls", "rate": "calls a second"}[
                episode.measure
            ]
            st.html(
                markup.section(
                    "Evidence", f"{measure} of {episode.operation or episode.service}; shaded while it fired"
                )
            )
            figure = evidence_chart(points, episode, around, view.zone, view.palette, view.now_ns)
            chart(figure, "evidence", f"{measure} of {episode.service} around the alert")
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


def _replays(view: View) -> None:
    rows = view.rows(queries.replays())
    if not rows:
        advice = markup.joined(
            "Repeat a stretch of history with ", markup.code("python -m replay run --from … --to …"), "."
        )
        st.html(markup.notice("Nothing was replayed yet.", advice))
        return
    for row in rows:
        _replay(view, row)
    replayed = queries.episodes_of(view.rows(queries.episodes(view.span)))
    replayed = [episode for episode in replayed if episode.replay_id]
    if replayed:
        st.html(markup.section("Alerts that replays raised", "in the chosen range"))
        st.html("".join(_row(view, episode, view.now_ns) for episode in replayed[:40]))


def _replay(view: View, row: Row) -> None:
    state: markup.Tone = {"done": "good", "failed": "bad", "running": "", "draining": ""}.get(row["state"], "warn")  # type: ignore[assignment]
    done = f" of {count_text(row['total_records'])}" if row["total_records"] else ""
    facts: list[markup.Fact] = [
        markup.Fact("State", row["state"], tone=state),
        markup.Fact("Records", f"{count_text(row['records'])}{done}"),
        markup.Fact("Spans", count_text(row["spans"])),
    ]
    for name, column in (
        ("New traces", "traces_new"),
        ("Amended", "traces_amended"),
        ("Unchanged", "traces_unchanged"),
        ("Alerts", "alerts"),
    ):
        if row[column] is not None:
            facts.append(markup.Fact(name, count_text(row[column])))
    if row["dead_letters"]:
        facts.append(markup.Fact("Dead letters", count_text(row["dead_letters"]), tone="warn"))
    started: Any = row["started_at"].astimezone(view.zone)
    st.html(markup.section(row["name"][:80], f"{row['source']} · started {started:%b %-d %H:%M}"))
    st.html(markup.facts(facts))
    if row["failure"]:
        st.html(markup.notice("It failed.", row["failure"], tone="bad"))
