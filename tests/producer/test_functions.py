"""Spans around functions of every kind."""

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

import tracewatch
from tests.producer.conftest import Recording
from tracewatch import add_metadata, configuration, trace_function


@pytest.fixture(autouse=True)
def configured(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's provider in the place of the process's, which OpenTelemetry lets be set once only."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recording.provider)
    monkeypatch.setattr(configuration.trace, "get_tracer", recording.provider.get_tracer)


def test_with_and_without_parentheses(recording: Recording) -> None:
    @trace_function
    def bare(value: int) -> int:
        return value + 1

    @trace_function()
    def empty(value: int) -> int:
        return value + 2

    @trace_function(name="fetch_stock_data", attributes={"source": "yahoo"})
    def named(value: int) -> int:
        add_metadata(custom_field=value, request_id="r1")
        add_metadata({"dotted.key": True})
        return value + 3

    @trace_function("by position")
    def positioned() -> None: ...

    assert (bare(1), empty(1), named(1), positioned()) == (2, 3, 4, None)
    assert [span.name.rpartition(".")[2] for span in recording.spans] == [
        "bare",
        "empty",
        "fetch_stock_data",
        "by position",
    ]
    attributes = recording.spans[2].attributes
    assert attributes["code.function.name"].endswith("test_with_and_without_parentheses.<locals>.named")
    assert (attributes["source"], attributes["custom_field"], attributes["request_id"]) == ("yahoo", 1, "r1")
    assert attributes["dotted.key"] is True
    assert bare.__name__ == "bare"


def test_methods_of_every_kind(recording: Recording) -> None:
    class Proxy:
        @trace_function
        def method(self) -> str:
            return "method"

        @trace_function
        @classmethod
        def of_class(cls) -> str:
            return cls.__name__

        @classmethod
        @trace_function
        def of_class_too(cls) -> str:
            return cls.__name__

        @trace_function
        @staticmethod
        def static() -> str:
            return "static"

    proxy = Proxy()
    assert [proxy.method(), Proxy.of_class(), Proxy.of_class_too(), proxy.static()] == [
        "method",
        "Proxy",
        "Proxy",
        "static",
    ]
    assert len(recording.spans) == 4


def test_an_exception_is_recorded_and_goes_on(recording: Recording) -> None:
    @trace_function
    def fails() -> None:
        raise KeyError("symbol")

    with pytest.raises(KeyError):
        fails()
    (span,) = recording.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "KeyError"
    assert len(span.events) == 1


async def test_coroutines_nest_and_do_not_mix(recording: Recording) -> None:
    @trace_function(name="inner")
    async def inner(number: int) -> int:
        await asyncio.sleep(0.001 * (number % 3))
        return number

    @trace_function(name="outer")
    async def outer(number: int) -> int:
        add_metadata(number=number)
        return await inner(number)

    assert await asyncio.gather(*(outer(number) for number in range(10))) == list(range(10))
    outers = {span.context.span_id: span for span in recording.spans if span.name == "outer"}
    inners = [span for span in recording.spans if span.name == "inner"]
    assert len(outers) == 10
    assert {span.parent.span_id for span in inners} == set(outers)


async def test_a_cancelled_coroutine_ends_its_span(recording: Recording) -> None:
    @trace_function
    async def waits() -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recording.spans[0].attributes["error.type"] == "asyncio.exceptions.CancelledError"


def test_a_generators_span_lasts_to_its_last_item_and_is_current_only_inside(recording: Recording) -> None:
    @trace_function(name="items")
    def items() -> Generator[int, str, str]:
        add_metadata(step=1)
        answer = yield 1
        add_metadata(answer=answer)
        yield 2
        return "end"

    generator = items()
    assert next(generator) == 1
    assert not trace.get_current_span().is_recording()
    assert generator.send("hello") == 2
    assert recording.spans == ()
    with pytest.raises(StopIteration) as stopped:
        next(generator)
    assert stopped.value.value == "end"
    (span,) = recording.spans
    assert (span.attributes["answer"], span.status.status_code) == ("hello", StatusCode.UNSET)


def test_a_generator_that_is_left_early_or_thrown_into(recording: Recording) -> None:
    cleaned = []

    @trace_function(name="items")
    def items() -> Iterator[int]:
        try:
            yield 1
            yield 2
        except LookupError:
            yield 3
        finally:
            cleaned.append(True)

    generator = items()
    next(generator)
    generator.close()  # type: ignore[attr-defined]
    generator = items()
    next(generator)
    assert generator.throw(LookupError) == 3  # type: ignore[attr-defined]
    assert list(generator) == []
    assert cleaned == [True, True]
    assert [span.status.status_code for span in recording.spans] == [StatusCode.UNSET] * 2


async def test_asynchronous_generators(recording: Recording) -> None:
    @trace_function(name="items")
    async def items(count: int) -> AsyncIterator[int]:
        for number in range(count):
            await asyncio.sleep(0)
            add_metadata(last=number)
            try:
                yield number
            except LookupError:
                yield -1

    assert [item async for item in items(3)] == [0, 1, 2]
    generator: Any = items(3)
    assert await anext(generator) == 0
    assert not trace.get_current_span().is_recording()
    assert await generator.athrow(LookupError()) == -1
    await generator.aclose()
    broken: Any = items(1)
    await anext(broken)
    with pytest.raises(ZeroDivisionError):
        await broken.athrow(ZeroDivisionError())
    assert [span.status.status_code.name for span in recording.spans] == ["UNSET", "UNSET", "ERROR"]
    assert recording.spans[0].attributes["last"] == 2


def test_metadata_without_a_span_is_nothing() -> None:
    tracewatch.add_metadata(key="value")
