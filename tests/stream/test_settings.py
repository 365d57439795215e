"""The page of settings tells of every setting, with its default and its sentence."""

from stream.settings import StreamSettings
from tests.services import ROOT


def test_the_page_lists_every_setting_with_its_default_and_its_sentence() -> None:
    page = (ROOT / "docs" / "assembly.md").read_text()
    for name, field in StreamSettings.model_fields.items():
        row = next((line for line in page.splitlines() if line.startswith(f"| `{name.upper()}` |")), "")
        default = field.get_default(call_default_factory=True)
        if isinstance(default, float):
            default = f"{default:g}"
        elif isinstance(default, bool):
            default = str(default).lower()
        assert row == f"| `{name.upper()}` | {default or ''} | {field.description} |", name
