"""The components, mounted: drawing data in, what the person chose out."""

from pathlib import Path
from typing import Any

import streamlit as st

_FOLDER = Path(__file__).parent

_FLOW_HTML = (
    '<div class="flow"><div class="stage"></div><div class="zoom">'
    '<button data-zoom="out" type="button" aria-label="Smaller">&minus;</button>'
    '<button data-zoom="fit" type="button" aria-label="Fit">&#8596;</button>'
    '<button data-zoom="in" type="button" aria-label="Larger">+</button>'
    '</div><div class="tip" role="status" hidden></div></div>'
)


def service_flow(drawing: dict[str, Any], key: str) -> str | None:
    """The service graph; the name of a service just chosen, empty where one was let go, None where nothing happened."""
    return _chosen(_component("service_flow", _FLOW_HTML)(data=drawing, key=key, on_selected_change=_nothing))


def timeline(drawing: dict[str, Any], key: str) -> str | None:
    """The timeline of a trace; the id of a span just chosen, else None."""
    html = (_FOLDER / "timeline.html").read_text()
    return _chosen(_component("timeline", html)(data=drawing, key=key, on_selected_change=_nothing))


def trace_list(drawing: dict[str, Any], key: str) -> str | None:
    """The list of traces; the id of a trace just chosen, else None."""
    html = '<div class="traces"></div>'
    return _chosen(_component("trace_list", html)(data=drawing, key=key, on_selected_change=_nothing))


def pick_list(drawing: dict[str, Any], key: str) -> str | None:
    """A table to choose from; the id of a row just chosen, else None."""
    html = '<div class="picks"></div>'
    return _chosen(_component("pick_list", html)(data=drawing, key=key, on_selected_change=_nothing))


def service_cards(drawing: dict[str, Any], key: str) -> str | None:
    """The services with their health; the name of one just chosen, else None."""
    html = '<div class="cards"></div>'
    return _chosen(_component("service_cards", html)(data=drawing, key=key, on_selected_change=_nothing))


def _component(name: str, html: str) -> Any:
    files = [(_FOLDER / f"{name}.{kind}").read_text() for kind in ("css", "js")]
    return st.components.v2.component(f"tracewatch_{name}", html=html, css=files[0], js=files[1])


def _chosen(result: Any) -> str | None:
    chosen = result.selected
    return chosen if isinstance(chosen, str) else None


def _nothing() -> None:
    """A trigger is only reported for which a callback is named."""
