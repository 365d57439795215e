"""The whole pipeline for a minute of faults on Apache Kafka: nothing lost, nothing double, every alert once.

Two minutes; ``pytest -m chaos`` runs it alone, ``-m "not chaos"`` all but it. Ten minutes of it: ``make chaos``.
"""

from pathlib import Path

import pytest

from quickstart import apache_kafka
from tests.chaos import report
from tests.chaos.__main__ import chaos_plan
from tests.chaos.run import run

SEED = 7
LOAD_S = 55.0
#: Of a machine that runs other tests, too.
SPANS_PER_S = 1000.0


@pytest.mark.chaos
async def test_nothing_is_lost_and_nothing_is_double_whatever_is_killed(tmp_path: Path) -> None:
    if (reason := apache_kafka.unavailable_reason()) is not None:
        pytest.skip(f"needs an Apache Kafka that can be killed: {reason}")
    said: list[str] = []
    outcome = await run(chaos_plan(SEED, LOAD_S, SPANS_PER_S, resolve_after_s=30.0), tmp_path, said.append)
    assert not report.problems(outcome), "\n".join([*said, *report.lines(outcome)])
