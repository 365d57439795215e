"""Parameters of foreign APIs in the OpenAPI document; ``parameters`` reads their values, and names what is wrong."""

from typing import Any

_DESCRIPTIONS = {
    "tags": 'JSON object of texts, like {"http.status_code":"404"}.',
    "tag": "key:value; may be repeated.",
    "start": "Unix microseconds.",
    "end": "Unix microseconds.",
    "endTs": "Unix milliseconds; default now.",
    "lookback": "Milliseconds before endTs.",
    "step": "Milliseconds between points.",
    "ratePer": "Milliseconds that a point covers.",
    "annotationQuery": "Terms like key=value or word, joined by ' and '.",
    "query.attributes": 'JSON object of texts, like {"http.status_code":"404"}.',
    "query.startTimeMin": "RFC 3339; required.",
    "query.startTimeMax": "RFC 3339; required.",
}


def query_parameters(*names: str) -> dict[str, Any]:
    """The ``openapi_extra`` of a route that takes these."""
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "schema": {"type": "string"},
                "description": _DESCRIPTIONS.get(name, ""),
            }
            for name in names
        ]
    }
