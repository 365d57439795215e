"""Which alerts a silence mutes, and when."""

import pytest

from tracecore.errors import MalformedPayload
from tracecore.silence import Matcher, MatchOperator, Silence
from tracecore.wire import decode_silence, encode_silence

LABELS = {"service": "cart", "severity": "critical"}


@pytest.mark.parametrize(
    ("name", "op", "value", "fits"),
    [
        ("service", "=", "cart", True),
        ("service", "=", "car", False),
        ("service", "!=", "front", True),
        ("service", "=~", "cart|front", True),
        ("service", "=~", "car", False),
        ("service", "!~", "fr.*", True),
        ("region", "=", "", True),
        ("region", "!=", "eu", True),
    ],
)
def test_matchers_are_alertmanagers(name: str, op: MatchOperator, value: str, fits: bool) -> None:
    assert Matcher(name, value, op).matches(LABELS) is fits


def test_silence_mutes_in_its_time_what_every_matcher_fits() -> None:
    matchers = (Matcher("service", "cart"), Matcher("severity", "crit.*", "=~"))
    silence = Silence("s1", matchers, 10, 20, "ann", "deploy", 5)
    assert [silence.mutes(LABELS, now_ns) for now_ns in (9, 10, 19, 20)] == [False, True, True, False]
    assert not silence.mutes({**LABELS, "severity": "info"}, 15)
    assert not Silence("s2", (), 10, 20, "ann", "all?", 5).mutes(LABELS, 15)
    assert decode_silence(encode_silence(silence)) == silence


def test_matcher_that_cannot_be_used_is_malformed() -> None:
    for matcher in (Matcher("", "x"), Matcher("service", "(", "=~")):
        with pytest.raises(MalformedPayload):
            decode_silence(encode_silence(Silence("s", (matcher,), 0, 1, "", "", 0)))
