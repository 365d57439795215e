"""Whatever the OpenAPI document allows, and much that it does not: no crash, and answers as the document says."""

import contextlib

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.live_api.builders import alert
from tests.live_api.history import Made, made_trace, store

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module", autouse=True)
def stored(history: str) -> None:
    """A history that is not empty."""
    store(history, [made_trace(1, Made(1), Made(2, 1, service="cart", error=True))], alerts=[alert()])


def test_every_answer_is_as_the_document_says(history_url: str) -> None:
    """Valid, odd and wrong requests to every operation, except the streams, which do not end."""
    schema = schemathesis.openapi.from_url(f"{history_url}/openapi.json").exclude(path_regex="^/sse/|^/readyz$")
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=3,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: schemathesis.Case) -> None:
                case.validate_response(case.call(), checks=CHECKS)

            with contextlib.suppress(Unsatisfiable):  # nothing is wrong to say to an operation without parameters
                ask()
                tried += 1
    assert tried > 60
