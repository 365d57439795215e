"""Attributes as JSON."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from sink.attributes import FragmentCache, json_of
from sink.detail import DetailReader
from sink.errors import PoisonRow
from tests.sink.builders import set_attributes
from tracecore.otlp import attributes_of
from tracecore.redaction import Redaction

_NOTHING_SECRET = Redaction(defaults=False)
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)
_VALUES = st.one_of(
    _TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(_TEXT, max_size=3),
)


@given(st.dictionaries(_TEXT, _VALUES, max_size=8))
def test_attributes_come_out_as_they_went_in(attributes: dict[str, Any]) -> None:
    span = SpanMessage(end_time_unix_nano=7)
    set_attributes(span.attributes, attributes)
    raw = span.SerializeToString()
    # Redaction would be right to mask some of what Hypothesis thinks of ("API-KEY" is one of its examples).
    cache = FragmentCache(_NOTHING_SECRET)
    encoded = [pair.SerializeToString() for pair in span.attributes]
    assert json.loads(cache.object_of(encoded)) == attributes
    assert json.loads(cache.object_of(encoded)) == attributes, "and the same when they are known"
    reader = DetailReader(_NOTHING_SECRET)
    assert json.loads(reader.full(raw, 0).attributes) == attributes
    plain = reader.plain(raw, 7)
    assert plain is None or json.loads(plain) == attributes


@given(st.binary(max_size=60))
def test_short_reading_and_protobuf_agree_on_any_bytes(key_value: bytes) -> None:
    try:
        by_hand = FragmentCache(_NOTHING_SECRET)._short(key_value)
    except PoisonRow:
        return
    if by_hand is not None:
        pair = KeyValue.FromString(key_value)
        assert json.loads(b"{" + by_hand + b"}") == attributes_of([pair])


@given(st.binary(max_size=80), st.integers(0, 2**64 - 1))
def test_a_span_of_any_bytes_is_read_or_refused(tail: bytes, end_ns: int) -> None:
    raw = b"\x41" + end_ns.to_bytes(8, "little") + tail
    reader = DetailReader()
    try:
        plain = reader.plain(raw, end_ns)
        if plain is not None and SpanMessage.FromString(raw).end_time_unix_nano == end_ns:
            assert json.loads(plain) == json.loads(reader.full(raw, 0).attributes)
    except (PoisonRow, ValueError):
        return
    except Exception as error:
        assert type(error).__name__ == "DecodeError"


def test_generations_of_the_cache_bound_it_and_keep_what_is_used() -> None:
    cache = FragmentCache(size=4)
    for number in range(50):
        pairs = [KeyValue(key="n", value=AnyValue(int_value=n)).SerializeToString() for n in (0, number)]
        assert json.loads(cache.object_of(pairs)) == {"n": number}
    assert len(cache._young) <= 4 and len(cache._old) <= 4


def test_bytes_are_base64_and_numbers_that_json_lacks_are_text() -> None:
    span = SpanMessage(end_time_unix_nano=1)
    set_attributes(span.attributes, {"b": b"\0\1", "n": math.nan, "i": math.inf, "m": -math.inf})
    assert json.loads(DetailReader().full(span.SerializeToString(), 0).attributes) == {
        "b": "AAE=",
        "n": "NaN",
        "i": "Infinity",
        "m": "-Infinity",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [("a", "x\0y"), ("a\0", "x"), ("a", ["x\0"]), ("a" * 200, "\0"), ("a\0" + "b" * 200, 1)],
)
def test_a_nul_character_is_poison(key: str, value: Any) -> None:
    span = SpanMessage(end_time_unix_nano=1)
    set_attributes(span.attributes, {key: value})
    raw = span.SerializeToString()
    with pytest.raises(PoisonRow, match="NUL"):
        DetailReader().plain(raw, 1)
    with pytest.raises(PoisonRow, match="NUL"):
        DetailReader().full(raw, 0)


def test_deep_nesting_and_invalid_utf8_are_poison() -> None:
    value = AnyValue(string_value="deep").SerializeToString()
    for _ in range(120):
        value = field(5, field(1, value))
    nested = field(1, b"a") + field(2, value)
    invalid = b"\x0a\x01a\x12\x04\x0a\x02\xff\xfe"
    for pair in (nested, invalid):
        with pytest.raises(PoisonRow, match="does not parse"):
            FragmentCache().object_of([pair])


def field(number: int, payload: bytes) -> bytes:
    """A protobuf field with bytes, of fewer than 16 384."""
    size = len(payload)
    length = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
    return bytes((number << 3 | 2,)) + length + payload


def test_what_is_no_attribute_is_a_bug() -> None:
    with pytest.raises(TypeError):
        json_of(object())


def test_attributes_that_stand_before_the_end_time_are_not_lost() -> None:
    attribute = SpanMessage(attributes=[KeyValue(key="a", value=AnyValue(string_value="b"))]).SerializeToString()
    end_time = b"\x41" + (7).to_bytes(8, "little")
    for raw in (attribute + end_time, end_time + attribute + end_time):
        reader = DetailReader()
        assert reader.plain(raw, 7) is None
        assert json.loads(reader.full(raw, 0).attributes) == {"a": "b"}
