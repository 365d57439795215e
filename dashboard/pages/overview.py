"""Overview: is all well, and if not, where to look first."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import streamlit as st

from dashboard import markup
from dashboard.components import mounts
from dashboard.figures.palette import GLYPHS, Grade, grade_of_error_rate, grade_of_health, worst_grade
from dashboard.figures.service_flow import compared_edges
from dashboard.figures.sparkline import relative
from dashboard.formats import change_text, counted, duration_text, percent_text, rate_text
from dashboard.pages.elements import alert_line, no_data, open_link
from dashboard.queries import alerts as alert_queries
from dashboard.queries import errors as error_queries
from dashboard.queries import service_flow as flow_queries
from dashboard.queries import statistics
from dashboard.queries.query import Row, nanoseconds
from dashboard.time_range import DAY_NS, TimeRange
from dashboard.view import View, toggle

_POINTS = 48
#: So many services leave the alerts and changes below them in sight.
_SHOWN = 12
_GRADES: tuple[Grade, ...] = ("bad", "warn", "unknown", "good")
#: Below this many calls a change since yesterday is chance.
_MIN_SPANS = 30


@dataclass
class _Service:
    """What is known of a service in the range, and of the same range a day ago."""

    spans: float = 0.0
    errors: float = 0.0
    p95_ns: float | None = None
    before_spans: float = 0.0
    before_errors: float = 0.0
    before_p95_ns: float | None = None
    score: float | None = None
    reason: str = ""
    alerts: list[alert_queries.Episode] = field(default_factory=list)
    #: Errors that began here, others only pass them on.
    origins: int = 0

    @property
    def error_ratio(self) -> float | None:
        return self.errors / self.spans if self.spans else None

    @property
    def grade(self) -> Grade:
        """The worst that its health, its errors and its alerts say."""
        says: list[Grade] = [grade_of_health(self.score), grade_of_error_rate(self.error_ratio)]
        says += ["bad" if alert.severity == "critical" else "warn" for alert in self.alerts]
        return worst_grade(says)


def show(view: View) -> None:
    """Facts, firing alerts, services from the worst to the best, what changed."""
    heading = st.empty()
    yesterday = view.span.shifted(-DAY_NS)
    view.expect(
        statistics.service_totals(view.span),
        statistics.service_series(view.span, _POINTS),
        statistics.service_totals(yesterday),
        flow_queries.health(view.span),
        alert_queries.firing(),
        flow_queries.dependencies(view.span),
        flow_queries.dependencies(yesterday),
        error_queries.groups(view.span),
    )
    services = _services(view, yesterday)
    if not services:
        heading.html(markup.title("Overview"))
        no_data(view, "No traffic in this range.")
        return
    worst = [name for name, service in services.items() if service.grade in ("bad", "warn")]
    note = f"{len(services) - len(worst)} of {counted(len(services), 'service')} well"
    heading.html(markup.title("Overview", note))
    firing = alert_queries.episodes_of(view.rows(alert_queries.firing()))
    _facts(view, services, firing)
    ordered = sorted(services.items(), key=_worst_first)
    everything = view.param("all") == "1"
    chosen = mounts.service_cards(_cards(view, ordered if everything else ordered[:_SHOWN]), key="services")
    if len(ordered) > _SHOWN:
        toggle(f"All {len(ordered)} services; else the {_SHOWN} that need a look most", "all")
    if chosen:
        page, params = view.link("flow", service=chosen)
        st.switch_page(page, query_params=params)
    left, right = st.columns(2, gap="large")
    with left:
        _firing(view, firing)
    with right:
        _changes(view, services, yesterday)


def _services(view: View, yesterday: TimeRange) -> dict[str, _Service]:
    services: dict[str, _Service] = {}
    for row in view.rows(statistics.service_totals(view.span)):
        services[row["service"]] = _Service(row["spans"], row["errors"], row["p95_ns"])
    for row in view.rows(statistics.service_totals(yesterday)):
        service = services.setdefault(row["service"], _Service())
        service.before_spans, service.before_errors = row["spans"], row["errors"]
        service.before_p95_ns = row["p95_ns"]
    for row in view.rows(flow_queries.health(view.span)):
        service = services.setdefault(row["service"], _Service())
        service.score, service.reason = float(row["score"]), flow_queries.reasons_text(row["reasons"])
    for group in view.rows(error_queries.groups(view.span)):
        if group["service"] in services:
            services[group["service"]].origins += group["origins"]
    for episode in alert_queries.episodes_of(view.rows(alert_queries.firing())):
        if episode.service in services:
            services[episode.service].alerts.append(episode)
    return services


def _facts(view: View, services: dict[str, _Service], firing: list[alert_queries.Episode]) -> None:
    spans, before = (sum(getattr(each, name) for each in services.values()) for name in ("spans", "before_spans"))
    errors = sum(each.errors for each in services.values())
    errors_before = sum(each.before_errors for each in services.values())
    ratio = errors / spans if spans else None
    traffic_note = f"{change_text(spans, before)} on yesterday" if change_text(spans, before) else ""
    ratio_before = errors_before / before if before else None
    critical = sum(alert.severity == "critical" for alert in firing)
    tone: markup.Tone = "bad" if critical else "warn" if firing else "good"
    grade = grade_of_error_rate(ratio)
    well = sum(each.grade == "good" for each in services.values())
    st.html(
        markup.facts(
            [
                markup.Fact("Firing alerts", str(len(firing)), f"{critical} critical" if critical else "", tone),
                markup.Fact("Services well", f"{well} of {len(services)}"),
                markup.Fact("Traffic", rate_text(spans / view.span.seconds), traffic_note),
                markup.Fact(
                    "Errors",
                    percent_text(ratio),
                    f"{percent_text(ratio_before)} yesterday" if ratio_before is not None else "",
                    grade if grade in ("warn", "bad") else "",
                ),
            ]
        )
    )


def _cards(view: View, services: list[tuple[str, _Service]]) -> dict[str, Any]:
    step = max(view.span.step_ns(_POINTS), 60 * 10**9)
    series: dict[str, dict[int, Row]] = {}
    for row in view.rows(statistics.service_series(view.span, _POINTS)):
        series.setdefault(row["service"], {})[nanoseconds(row["at"])] = row
    moments = sorted({at for steps in series.values() for at in steps})
    step = max(step, min((later - earlier for earlier, later in pairwise(moments)), default=step))
    moments = list(range(moments[0], moments[-1] + 1, step)) if moments else []
    # A step that is not over yet would look like a drop.
    moments = [at for at in moments if at + step <= view.now_ns] or moments
    palette = view.palette
    return {
        "palette": {
            name: getattr(palette, name)
            for name in ("ink", "muted", "line", "surface", "accent", "good", "warn", "bad", "unknown")
        },
        "services": [
            _card(name, service, view.span, [series.get(name, {}).get(at) for at in moments])
            for name, service in services
        ],
    }


def _worst_first(item: tuple[str, _Service]) -> tuple[int, int, int, float, float, str]:
    """Causes before those who suffer: of a grade, whom alerts name, then where errors begin."""
    name, service = item
    score = 101.0 if service.score is None else service.score
    return _GRADES.index(service.grade), -len(service.alerts), -service.origins, score, -service.spans, name


def _card(name: str, service: _Service, span: TimeRange, steps: list[Row | None]) -> dict[str, Any]:
    traffic = [step["spans"] if step else 0.0 for step in steps]
    errors = [step["errors"] / step["spans"] if step and step["spans"] else 0.0 for step in steps]
    slower = _ratio(service.p95_ns, service.before_p95_ns)
    enough = min(service.spans, service.before_spans) >= _MIN_SPANS
    error_grade = grade_of_error_rate(service.error_ratio)
    reason = service.reason or "; ".join(alert.summary or alert.name for alert in service.alerts[:2])
    if not reason and error_grade in ("warn", "bad"):
        # Well again by now, and still marked: say what for.
        reason = f"{percent_text(service.error_ratio)} failed in this range"
    elif not reason and not service.spans:
        reason = "no traffic in this range, but a day ago"
    return {
        "name": name,
        "grade": service.grade,
        "glyph": GLYPHS[service.grade],
        "score": "" if service.score is None else f"{service.score:.0f}",
        "reason": reason,
        "metrics": [
            {
                "name": "Traffic",
                "value": rate_text(service.spans / span.seconds),
                "change": change_text(service.spans, service.before_spans) if enough else "",
                "changeTone": "",
                "tone": "",
                "points": relative(traffic),
            },
            {
                "name": "Errors",
                "value": percent_text(service.error_ratio),
                "change": "",
                "changeTone": "",
                "tone": error_grade if error_grade in ("warn", "bad") else "",
                "points": relative(errors),
            },
            {
                "name": "p95",
                "value": duration_text(service.p95_ns),
                "change": change_text(service.p95_ns, service.before_p95_ns) if enough else "",
                "changeTone": "bad" if enough and slower >= 1.5 else "good" if enough and 0 < slower <= 0.67 else "",
                "tone": "",
                "points": relative([step["p95_ns"] if step else None for step in steps]),
            },
        ],
    }


def _firing(view: View, firing: list[alert_queries.Episode]) -> None:
    st.html(markup.section("Firing alerts"))
    if not firing:
        st.html(markup.notice(f"{GLYPHS['good']} Nothing fires.", tone="good"))
    for episode in firing[:8]:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.html(alert_line(episode, view.now_ns, view.zone), width="stretch")
            open_link(view, "alerts", "Look", icon=":material/arrow_forward:", alert=episode.episode_id)
    if len(firing) > 8:
        open_link(view, "alerts", f"All {len(firing)} alerts")


def _changes(view: View, services: dict[str, _Service], yesterday: TimeRange) -> None:
    st.html(markup.section("Since yesterday", "the same hours, a day ago"))
    if not any(service.before_spans for service in services.values()):
        st.html(markup.notice("There is nothing to compare with yet.", "Yesterday at this time nothing was stored."))
        return
    rows: list[tuple[float, tuple[markup.Text, markup.Text, markup.Text, markup.Text]]] = []
    for name, service in services.items():
        if min(service.spans, service.before_spans) >= _MIN_SPANS:
            slower = _ratio(service.p95_ns, service.before_p95_ns)
            if slower >= 1.3 or 0 < slower <= 0.77:
                text = duration_text(service.p95_ns)
                change = change_text(service.p95_ns, service.before_p95_ns)
                rows.append((abs(slower - 1), (name, "p95", text, _toned(change, slower > 1))))
            before = service.before_errors / service.before_spans
            now = service.error_ratio or 0.0
            if (now >= 0.01 and now > 2 * before) or (before >= 0.01 and before > 2 * now):
                change = f"was {percent_text(before)}"
                rows.append((10 * abs(now - before), (name, "errors", percent_text(now), _toned(change, now > before))))
        elif service.before_spans >= _MIN_SPANS and not service.spans:
            rows.append((5.0, (name, "traffic", "none", _toned("gone", True))))
        elif service.spans >= _MIN_SPANS and not service.before_spans:
            rows.append((4.0, (name, "traffic", rate_text(service.spans / view.span.seconds), markup.toned("new", ""))))
    edges, past = (
        flow_queries.edges_of(view.rows(flow_queries.dependencies(span)), ()) for span in (view.span, yesterday)
    )
    for edge in compared_edges(edges, past):
        if edge.change in ("new", "gone") and edge.calls >= _MIN_SPANS:
            rows.append((3.0, (edge.caller, "calls to", edge.callee, markup.toned(edge.change, ""))))
    groups = view.rows(error_queries.groups(view.span))
    for group in error_queries.error_groups(groups, (), view.span, 1):
        if group.state != "ongoing" and group.origins:
            what = f"{group.error_type} in {group.operation}"
            rows.append((6.0, (group.service, "error", what, markup.toned(group.state, "bad"))))
    if not rows:
        st.html(markup.notice(f"{GLYPHS['good']} Nothing changed that matters.", tone="good"))
        return
    rows.sort(key=lambda row: -row[0])
    st.html(markup.table(("Service", "What", "Now", "Change"), [cells for _, cells in rows[:12]], numeric=(3,)))


def _toned(text: str, worse: bool) -> markup.Markup:
    return markup.toned(text, "bad" if worse else "good")


def _ratio(now: float | None, before: float | None) -> float:
    return now / before if now and before else 0.0
