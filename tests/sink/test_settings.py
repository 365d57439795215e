"""The settings page of the docs and the code say the same."""

from sink.settings import SinkSettings
from tests.services import ROOT


def test_every_setting_stands_in_the_docs_as_it_is() -> None:
    page = (ROOT / "docs" / "history.md").read_text()
    documented = [line for line in page.splitlines() if line.startswith("| `TRACEWATCH_SINK_")]
    assert documented == [
        f"| `TRACEWATCH_SINK_{name.upper()}` | `{field.default}` | {field.description} |"
        for name, field in SinkSettings.model_fields.items()
    ]
