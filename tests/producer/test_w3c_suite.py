"""The W3C's own trace-context test suite, strict and level 2, against a Flask and a FastAPI service of ours.

The suite is not part of this repository: clone github.com/w3c/trace-context and
name the clone's ``test`` folder in TRACEWATCH_TEST_W3C_SUITE. Its laws are also
in tests/vectors/headers.json, which is always asserted.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.producer.conftest import ROOT, service_environment

SUITE = Path(os.environ.get("TRACEWATCH_TEST_W3C_SUITE", ""))


@pytest.mark.skipif(not (SUITE / "tracecontext").is_dir(), reason="needs TRACEWATCH_TEST_W3C_SUITE, the suite's folder")
@pytest.mark.parametrize("framework", ["flask", "fastapi"])
def test_every_test_of_the_suite_passes(framework: str) -> None:
    service = subprocess.Popen(
        [sys.executable, "-m", "tests.producer.echo_service", framework],
        cwd=ROOT,
        env=service_environment("127.0.0.1:1", "spans") | {"TRACEWATCH_PRODUCER_FLUSH_TIMEOUT_S": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert service.stdout is not None
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        harness_port = reserved.getsockname()[1]
    try:
        with service.stdout:
            url = service.stdout.readline().strip()
        outcome = subprocess.run(
            [sys.executable, "test.py", url],
            cwd=SUITE,
            env={**os.environ, "HARNESS_PORT": str(harness_port), "STRICT_LEVEL": "2", "SPEC_LEVEL": "2"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        service.terminate()
        service.wait(15)
    assert outcome.returncode == 0, outcome.stderr
    ran = re.search(r"^Ran (\d+) tests", outcome.stderr, re.MULTILINE)
    assert ran is not None
    assert int(ran[1]) >= 41
