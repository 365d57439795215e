"""When the compiled making of rows is loaded, and when it is not."""

import sys

import pytest

from sink.compiled import CompiledCode
from sink.packed import Packing
from tests.sink.harness import eventually
from tracecore.redaction import BUILT_IN, Redaction


def test_compiled_code_is_loaded_when_it_is_wanted(packing: Packing) -> None:
    code = CompiledCode(BUILT_IN, is_allowed=True)
    assert code.packing is None
    code.wanted()
    eventually(lambda: code.packing)
    loaded = code.packing
    code.wanted()
    assert code.packing is loaded


def test_without_numba_plain_python_makes_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sink.packer", None)
    code = CompiledCode(BUILT_IN, is_allowed=True)
    code.load()
    assert code.packing is None


@pytest.mark.parametrize(("redaction", "is_allowed"), [(BUILT_IN, False), (Redaction(patterns=["secret"]), True)])
def test_what_the_settings_forbid_is_not_loaded(redaction: Redaction, is_allowed: bool) -> None:
    code = CompiledCode(redaction, is_allowed)
    code.load()
    assert code.packing is None
