"""When a worker calls itself unwell."""

import pytest

from stream.status_pages import is_stalled


@pytest.mark.parametrize(
    ("lag_records", "quiet_s", "stalled"),
    [
        (0, 3600, False),  # nothing to read
        (5000, 59, False),  # behind, and reading: a record may take a while
        (1, 61, True),
        (5000, 3600, True),
    ],
)
def test_a_worker_is_unwell_that_reads_nothing_though_records_wait(
    lag_records: int, quiet_s: float, stalled: bool
) -> None:
    assert is_stalled(lag_records, quiet_s, stalled_s=60) is stalled
