"""What several tests of the core stand on."""

import pytest

from tracecore import batch_analysis


@pytest.fixture
def analysed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces are analysed by compiled code, however few their spans are."""
    batch_analysis.warm_up()
    monkeypatch.setattr(batch_analysis, "MIN_SPANS", 1)
