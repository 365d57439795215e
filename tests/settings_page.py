"""Writes docs/settings.md from the settings that the rooms declare: ``python -m tests.settings_page``.

Settings of the instrumentation and the gateway stand in docs/instrumenting.md, beside what they set.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
ROOMS = ("tracecore", "stream", "stream.alerting", "sink", "replay", "live_api", "dashboard")

_INTRODUCTION = """\
# Settings

Every room reads its settings from the environment, once, at its start; a wrong value stops the start and names the
variable. OpenTelemetry's and libpq's own variables keep their names and work (`OTEL_SERVICE_NAME`, `PGPASSWORD`, ...).

Settings of the instrumentation and of the gateway: [instrumenting.md](instrumenting.md).

<!-- Written by `python -m tests.settings_page`; a test compares it with the code. -->
"""


def settings_of(room: str) -> Iterator[type[BaseSettings]]:
    """The settings classes that a room's module ``settings`` defines, in their order."""
    module = importlib.import_module(f"{room}.settings")
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == module.__name__:
            yield value


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for room in ROOMS:
        for settings in settings_of(room):
            title = "Every room" if room == "tracecore" else f"`{room}`"
            parts.append(f"## {title}: {(settings.__doc__ or '').strip()}\n\n{_table(settings)}")
    return "\n".join(parts)


def _table(settings: type[BaseSettings]) -> str:
    prefix = settings.model_config.get("env_prefix", "")
    rows = ["| variable | default | what it sets |", "| --- | --- | --- |"]
    for name, field in settings.model_fields.items():
        rows.append(f"| `{prefix}{name}".upper() + f"` | {_default(field)} | {_description(field)} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is None or default == "" or default in ((), [], {}):
        return ""
    return f"`{default}`"


def _description(field: FieldInfo) -> str:
    text = (field.description or "").replace("|", "\\|")
    if get_origin(field.annotation) is not Literal:
        return text
    return f"{text} One of {', '.join(f'`{choice}`' for choice in get_args(field.annotation))}."


if __name__ == "__main__":
    PAGE.write_text(page())
