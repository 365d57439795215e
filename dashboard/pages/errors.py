"""Errors: what fails, where it begins, who suffers."""

import streamlit as st

from dashboard import markup
from dashboard import view as controls
from dashboard.components import mounts
from dashboard.figures.pick_list import Cell, Column, bars_of, pick_drawing
from dashboard.formats import ago_text, clock_text, count_text, counted, duration_text, moment_text
from dashboard.pages.elements import no_data, open_link
from dashboard.queries import errors as queries
from dashboard.queries.query import query
from dashboard.view import View, set_params

_POINTS = 40
_STATES = {"new": "New", "regressed": "Back again", "ongoing": "Ongoing"}
_TONES = {"new": "bad", "regressed": "warn", "ongoing": "muted"}
_COLUMNS = (
    Column("State", "84px"),
    Column("Error", "minmax(160px, 2fr)", main=True),
    Column("Operation", "minmax(100px, 1.4fr)"),
    Column("Over time", "minmax(90px, 150px)"),
    Column("Began here", "76px", numeric=True),
    Column("Errors", "64px", numeric=True),
    Column("First seen", "96px"),
    Column("Last seen", "84px"),
)
_SHOWN = {"": "Where errors begin", "all": "All failing operations"}


def show(view: View) -> None:
    """The groups, and one of them close."""
    rows, counts = view.all_rows(queries.groups(view.span), queries.counts(view.span, _POINTS))
    groups = queries.error_groups(rows, counts, view.span, _POINTS)
    total = sum(group.origins for group in groups)
    fresh = sum(group.state == "new" and group.origins > 0 for group in groups)
    note = (
        f"{counted(total or sum(group.errors for group in groups), 'error')}, {counted(fresh, 'new kind')}"
        if groups
        else ""
    )
    st.html(markup.title("Errors", note))
    if not groups:
        if view.rows(query("SELECT 1 AS one FROM traces LIMIT 1")):
            st.html(markup.notice("● No errors in this range.", "No span ended with status Error.", tone="good"))
        else:
            no_data(view, "No errors in this range.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters", gap="small"):
        with st.container(width=240):
            service = controls.select("Service", "service", sorted({group.service for group in groups}), empty="All")
        with st.container(width=180):
            state = controls.select("State", "state", list(_STATES), empty="Any", texts=_STATES)
        shown = controls.choice("Which", "which", _SHOWN, "")
    chosen_groups = [
        group
        for group in groups
        if (not service or group.service == service)
        and (not state or group.state == state)
        and (shown == "all" or group.origins or service or not total)
    ]
    _table(view, chosen_groups)
    wanted = view.param("group")
    group = next((group for group in groups if group.group_id == wanted), None)
    if group is not None:
        _details(view, group)


def _table(view: View, groups: list[queries.ErrorGroup]) -> None:
    if not groups:
        st.html(markup.notice("No group matches.", "Choose another service or state."))
        return
    drawing = pick_drawing(
        _COLUMNS, [(group.group_id, _cells(view, group)) for group in groups], view.palette, view.param("group")
    )
    chosen = mounts.pick_list(drawing, key="groups")
    if chosen:
        set_params(group="" if chosen == view.param("group") else chosen)
        st.rerun()


def _cells(view: View, group: queries.ErrorGroup) -> tuple[Cell, ...]:
    return (
        Cell(_STATES[group.state], tone=_TONES[group.state]),
        Cell(f"{group.error_type} in {group.service}", group.message),
        Cell(group.operation, tone="muted"),
        Cell("", bars=bars_of(group.counts), sort=group.errors),
        Cell(count_text(group.origins), sort=group.origins),
        Cell(count_text(group.errors), sort=group.errors),
        Cell(clock_text(group.first_seen_ns, view.zone, now_ns=view.now_ns), tone="muted", sort=group.first_seen_ns),
        Cell(ago_text(view.now_ns - group.last_seen_ns), tone="muted", sort=group.last_seen_ns),
    )


def _details(view: View, group: queries.ErrorGroup) -> None:
    st.html(markup.section(f"{group.error_type} in {group.service}"[:120], group.operation))
    samples = view.rows(queries.samples(view.span, group.service, group.operation, group.error_type))
    impacted = sorted({service for row in samples for service in row["impacted"] or ()} - {group.service})
    roots = sorted({f"{row['root_service']} {row['root_operation']}" for row in samples})
    tone: markup.Tone = "bad" if group.state != "ongoing" else ""
    st.html(
        markup.facts(
            [
                markup.Fact("State", _STATES[group.state], tone=tone),
                markup.Fact("Errors", count_text(group.errors), f"{count_text(group.origins)} began here"),
                markup.Fact("First seen", moment_text(group.first_seen_ns, view.zone)[:16]),
                markup.Fact("Last seen", ago_text(view.now_ns - group.last_seen_ns)),
                markup.Fact("Services impacted", ", ".join(impacted) or "none besides"),
            ]
        )
    )
    if group.message:
        st.html(markup.pairs([("Message", group.message), ("Users' requests", ", ".join(roots[:6]))]))
    st.html(markup.section("Sample traces", "newest first"))
    for row in samples[:8]:
        trace_id = bytes(row["trace_id"]).hex()
        label = f"{clock_text(row['start_ns'], view.zone, now_ns=view.now_ns)}   {duration_text(row['duration_ns'])}"
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            open_link(view, "traces", label, icon=":material/timeline:", trace=trace_id)
            st.html(markup.html_of(f"{row['root_service']} {row['root_operation']}"), width="content")
    with st.container(horizontal=True):
        open_link(view, "traces", "All its failed traces", service=group.service, status="error")
        open_link(view, "flow", "Its place in the service flow", service=group.service)
