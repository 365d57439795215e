"""Plain WSGI applications."""

from collections.abc import Iterable
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest

from tests.producer.conftest import Recording
from tracewatch.wsgi import TracingMiddleware


def call(app: Any, **environ: Any) -> Any:
    setup_testing_defaults(environ)
    return app(environ, lambda status, headers, exc_info=None: lambda data: None)


def test_a_complete_body_is_passed_on_as_it_is(recording: Recording) -> None:
    body = [b"all"]

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("204 No Content", [])
        return body

    assert call(TracingMiddleware(app, tracer_provider=recording.provider)) is body
    assert recording.spans[0].attributes["http.response.status_code"] == 204


def test_a_file_is_left_for_the_server_to_send(recording: Recording, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](path.open("rb"))  # type: ignore[no-any-return]

    body = call(TracingMiddleware(app, tracer_provider=recording.provider), **{"wsgi.file_wrapper": FileWrapper})
    assert isinstance(body, FileWrapper)
    body.close()
    assert len(recording.spans) == 1


def test_a_body_closed_early_is_closed_inside_and_ends_once(recording: Recording) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Any:
            return iter([b"1", b"2"])

        def close(self) -> None:
            closed.append(True)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Body()

    body = call(TracingMiddleware(app, tracer_provider=recording.provider))
    assert next(body) == b"1"
    assert recording.spans == ()
    body.close()
    body.close()
    assert closed
    assert len(recording.spans) == 1


def test_an_application_that_raises_is_an_error_and_still_raises(recording: Recording) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise LookupError("gone")

    with pytest.raises(LookupError):
        call(TracingMiddleware(app, tracer_provider=recording.provider))
    assert recording.spans[0].attributes["error.type"] == "LookupError"


def test_a_path_of_bytes_is_read_as_utf8(recording: Recording) -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b""]

    path = "/caf\u00e9".encode().decode("latin-1")
    call(TracingMiddleware(app, tracer_provider=recording.provider), PATH_INFO=path, SCRIPT_NAME="/shop")
    call(TracingMiddleware(app, tracer_provider=recording.provider), PATH_INFO="/\xff\xfe")
    assert [span.attributes["url.path"] for span in recording.spans] == ["/shop/caf\u00e9", "/\ufffd\ufffd"]
