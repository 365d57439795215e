"""Spans around functions, and metadata on the current span."""

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from tracewatch.configuration import tracer
from tracewatch.http_server import set_exception

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@overload
def trace_function(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def trace_function(
    name: str | None = None,
    *,
    service: str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def trace_function(
    name: str | Callable[..., Any] | None = None,
    *,
    service: str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Any:
    """Make each call of a function a span: ``@trace_function`` or ``@trace_function(name=..., service=...)``.

    ``name`` defaults to the function's qualified name, ``service`` to the configured
    service. Functions, coroutine functions, generators (sync and async), methods,
    ``staticmethod`` and ``classmethod`` objects; a generator's span lasts from its
    first to its last item, and is current only while it runs. An exception that
    leaves the function is recorded and makes the span an error.
    """
    if callable(name) or isinstance(name, staticmethod | classmethod):
        return _traced(name, None, service, attributes)
    return lambda function: _traced(function, name, service, attributes)


def add_metadata(metadata: Mapping[str, AttributeValue] | None = None, /, **values: AttributeValue) -> None:
    """Put attributes on the current span; nothing without one. Keys that are no identifiers go into the mapping.

    Never raises: a value that cannot be read (its ``__str__`` fails) is left out.
    """
    span = trace.get_current_span()
    if span.is_recording():
        attributes = {**(metadata or {}), **values}
        try:
            span.set_attributes(attributes)
        except Exception:
            for key, value in attributes.items():
                try:
                    span.set_attribute(key, value)
                except Exception:
                    logger.warning("The metadata %r of a span cannot be read and is left out", key)


def _traced(
    function: Any, name: str | None, service: str | None, attributes: Mapping[str, AttributeValue] | None
) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_traced(function.__func__, name, service, attributes))
    span_name = name or getattr(function, "__qualname__", None) or repr(function)
    code = _code_attributes(function) | dict(attributes or {})

    def start() -> Span:
        return tracer(service).start_span(span_name, attributes=code)

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def traced_async_generator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            span = start()
            items = function(*args, **kwargs)
            step = items.asend(None)
            try:
                while True:
                    with _Current(span):
                        item = await step
                    try:
                        step = items.asend((yield item))
                    except GeneratorExit:
                        with _Current(span):
                            await items.aclose()
                        raise
                    except BaseException as error:
                        step = items.athrow(error)
            except StopAsyncIteration:
                return
            finally:
                span.end()

        return traced_async_generator

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def traced_coroutine(*args: Any, **kwargs: Any) -> Any:
            span = start()
            try:
                with _Current(span):
                    return await function(*args, **kwargs)
            finally:
                span.end()

        return traced_coroutine

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def traced_generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            span = start()
            try:
                return (yield from _Stepped(function(*args, **kwargs), span))
            finally:
                span.end()

        return traced_generator

    @functools.wraps(function)
    def traced_function(*args: Any, **kwargs: Any) -> Any:
        span = start()
        try:
            with _Current(span):
                return function(*args, **kwargs)
        finally:
            span.end()

    return traced_function


class _Current:
    """Makes the span current for a block, and records an exception that leaves it."""

    __slots__ = ("_span", "_token")

    # How generators say that they are done, or are told to be: no failures.
    _ORDINARY = (StopIteration, StopAsyncIteration, GeneratorExit)

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._token = context_api.attach(trace.set_span_in_context(self._span))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None and not isinstance(error, self._ORDINARY):
            set_exception(self._span, error)
        context_api.detach(self._token)


class _Stepped:
    """A generator whose span is current only while it runs: what consumes it is not inside."""

    def __init__(self, items: Any, span: Span) -> None:
        self._items = items
        self._span = span

    def __iter__(self) -> "_Stepped":
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        with _Current(self._span):
            return self._items.send(value)

    def throw(self, error: BaseException) -> Any:
        with _Current(self._span):
            return self._items.throw(error)

    def close(self) -> None:
        with _Current(self._span):
            self._items.close()


def _code_attributes(function: Any) -> dict[str, AttributeValue]:
    qualname = getattr(function, "__qualname__", None)
    if qualname is None:
        return {}
    return {"code.function.name": f"{getattr(function, '__module__', '')}.{qualname}"}
