"""Fixtures of the sink's tests."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from sink.packed import Packing
from tests.services import PostgresServer
from tracecore.redaction import BUILT_IN


@pytest.fixture
def empty_twin(postgres: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A second database with every migration applied: what stands in it is what is to stand in the first."""
    name = f"test_{uuid4().hex[:8]}"
    yield postgres.create_database(name, template=migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def packing() -> Packing:
    """The compiled making of rows; compiled here, once, so that the sinks that a test starts find it."""
    return pytest.importorskip("sink.packer").Packer(BUILT_IN)
