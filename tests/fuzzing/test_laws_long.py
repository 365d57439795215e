"""The laws of every decoder, on what Hypothesis makes of valid inputs. ``make fuzz`` goes on for hours."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing.laws import LAWS
from tests.fuzzing.seeds import seeds

SEEDS = seeds()
JSON_LAWS = ("otlp_json", "zipkin", "jaeger")
#: Between one and two seconds a law.
EXAMPLES = 5000

numbers = st.integers(-(2**70), 2**70) | st.floats() | st.integers(0, 3)
texts = st.text(max_size=20) | st.sampled_from(["", "0", "ff" * 8, "ab" * 16, "true", "int64", "\ud800", "\0"])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A valid input with up to eight of its stretches cut out, replaced or repeated; or anything at all."""
    data = bytearray(draw(st.sampled_from(SEEDS[name]) | st.binary(max_size=200)))
    for _ in range(draw(st.integers(0, 8))):
        at = draw(st.integers(0, len(data)))
        until = draw(st.integers(at, min(len(data), at + 12)))
        data[at:until] = draw(st.binary(max_size=12) | st.just(bytes(data[at:until]) * 2))
    return bytes(data)


@st.composite
def altered(draw: st.DrawFn, name: str) -> bytes:
    """A valid document with up to four of its values replaced by any others."""
    document = json.loads(draw(st.sampled_from(SEEDS[name])))
    for _ in range(draw(st.integers(1, 4))):
        holder = document
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(holder[key], dict | list) or draw(st.integers(0, 7)) == 0:
                holder[key] = draw(values)
                break
            holder = holder[key]
    return json.dumps(document).encode()


@pytest.mark.parametrize("name", LAWS)
def test_valid_inputs_keep_the_law(name: str) -> None:
    for seed in SEEDS[name]:
        LAWS[name](seed)


@pytest.mark.parametrize("name", LAWS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_bytes_keep_the_law(name: str, data: st.DataObject) -> None:
    LAWS[name](data.draw(mutated(name)))


@pytest.mark.parametrize("name", JSON_LAWS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_document_keeps_the_law(name: str, data: st.DataObject) -> None:
    LAWS[name](data.draw(altered(name)))
