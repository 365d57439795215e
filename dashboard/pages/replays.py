"""The part of Alerts about the past repeated: replays and what they did, back-tests beside the rules in force."""

from datetime import datetime
from typing import Any

import streamlit as st

from dashboard import markup
from dashboard.formats import MISSING, clock_text, count_text, counted, duration_text
from dashboard.pages.elements import alert_row, measured_text
from dashboard.queries import alerts as alert_queries
from dashboard.queries import backtests as queries
from dashboard.queries.query import Row
from dashboard.view import View

_UNDER: dict[queries.Under, tuple[str, markup.Tone]] = {
    "tried": ("only these rules", "warn"),
    "in_force": ("only those in force", "muted"),
    "both": ("both", ""),
}
_SHOWN_ALERTS = 60


def show(view: View) -> None:
    """Back-tests, replays, and the alerts that replays raised in the range."""
    backtest_rows, replay_rows, episode_rows = view.all_rows(
        queries.backtests(), queries.replays(), alert_queries.episodes(view.span)
    )
    if not backtest_rows and not replay_rows:
        replay = markup.code("python -m replay run --from … --to …")
        backtest = markup.code("python -m replay backtest --rules my_rules.yml --from …")
        advice = markup.joined("Repeat a stretch of history with ", replay, ", or try rules on it with ", backtest, ".")
        st.html(markup.notice("Nothing was replayed or back-tested yet.", advice))
        return
    for number, backtest in enumerate(queries.backtests_of(backtest_rows)):
        _backtest(view, backtest, opened=number == 0)
    for row in replay_rows:
        _replay(view, row)
    replayed = [episode for episode in alert_queries.episodes_of(episode_rows) if episode.replay_id]
    if replayed:
        st.html(markup.section("Alerts that replays raised", "in the chosen range"))
        st.html("".join(alert_row(view, episode) for episode in replayed[:40]))


def _backtest(view: View, backtest: queries.Backtest, *, opened: bool) -> None:
    when = f"{backtest.finished_at.astimezone(view.zone):%b %-d %H:%M}"
    st.html(
        markup.section(f"Back-test of {backtest.rules}"[:90], f"{backtest.source}, {_stretch(view, backtest)} · {when}")
    )
    tried, in_force, both = (backtest.count(under) for under in ("tried", "in_force", "both"))
    st.html(
        markup.facts(
            [
                markup.Fact("Alerts under these rules", count_text(tried + both)),
                markup.Fact("Under those in force", count_text(in_force + both)),
                markup.Fact("Only under these", count_text(tried), tone="warn" if tried else ""),
                markup.Fact("Only under those in force", count_text(in_force)),
            ]
        )
    )
    scores = [
        (name, text)
        for name, text in (("These rules", backtest.tried_score), ("In force", backtest.in_force_score))
        if text
    ]
    if scores:
        st.html(markup.pairs(scores))
    if backtest.alerts:
        with st.expander(counted(len(backtest.alerts), "alert"), expanded=opened):
            st.html(_alerts(view, backtest))


def _alerts(view: View, backtest: queries.Backtest) -> str:
    order = ("tried", "in_force", "both")
    alerts = sorted(backtest.alerts, key=lambda alert: (order.index(alert.under), alert.starts_at_ns))
    return markup.table(
        ("Raised under", "Alert", "Severity", "Service", "Operation", "Evidence", "Began", "Lasted"),
        [
            (
                markup.toned(*_UNDER[alert.under]),
                alert.labels.get("alertname", ""),
                alert.labels.get("severity", ""),
                alert.labels.get("service", ""),
                alert.labels.get("operation", ""),
                measured_text(alert.observed, alert.baseline, alert.unit),
                clock_text(alert.starts_at_ns, view.zone, now_ns=view.now_ns),
                MISSING if alert.ends_at_ns is None else duration_text(alert.ends_at_ns - alert.starts_at_ns),
            )
            for alert in alerts[:_SHOWN_ALERTS]
        ],
        numeric=(7,),
    )


def _stretch(view: View, backtest: queries.Backtest) -> str:
    def shown(moment: datetime | None, open_end: str) -> str:
        return f"{moment.astimezone(view.zone):%b %-d %H:%M}" if moment else open_end

    if backtest.from_time is None and backtest.until_time is None:
        return "all of it"
    return f"{shown(backtest.from_time, 'the beginning')} to {shown(backtest.until_time, 'the end')}"


def _replay(view: View, row: Row) -> None:
    tones: dict[str, markup.Tone] = {"done": "good", "failed": "bad", "running": "", "draining": ""}
    done = f" of {count_text(row['total_records'])}" if row.get("total_records") else ""
    facts: list[markup.Fact] = [
        markup.Fact("State", row["state"], tone=tones.get(row["state"], "warn")),
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
    if row["unreadable"]:
        facts.append(markup.Fact("Unreadable", count_text(row["unreadable"]), tone="warn"))
    started: Any = row["started_at"].astimezone(view.zone)
    st.html(markup.section(f"Replay {row['name']}"[:90], f"{row['source']} · started {started:%b %-d %H:%M}"))
    st.html(markup.facts(facts))
    if row["failure"]:
        st.html(markup.notice("It failed.", row["failure"], tone="bad"))
