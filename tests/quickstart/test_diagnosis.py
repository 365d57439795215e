"""What the doctor concludes."""

import pytest

from quickstart.diagnosis import Diagnosis, GroupSeen, TopicSeen, of_clock, of_group, of_migrations, of_topics, report
from tracecore.topics import Topics

SPECS = Topics().specs()


def as_made(partitions: int = 8) -> dict[str, TopicSeen]:
    return {spec.name: TopicSeen(partitions if spec.partitioned else 1, dict(spec.config)) for spec in SPECS}


def test_topics_as_the_stream_makes_them_are_well() -> None:
    assert [one.verdict for one in of_topics(SPECS, as_made(), 8)] == ["well"]


def test_missing_topics_are_named() -> None:
    seen = as_made()
    del seen["tracewatch.alerts"]
    (one,) = of_topics(SPECS, seen, 8)
    assert (one.verdict, one.seen) == ("broken", "missing: tracewatch.alerts")
    assert "python -m stream" in one.remedy


@pytest.mark.parametrize(
    ("topic", "seen", "verdict", "said"),
    [
        ("tracewatch.spans", TopicSeen(3, {"message.timestamp.type": "LogAppendTime"}), "odd", "3 partitions"),
        ("tracewatch.findings", TopicSeen(8, {}), "broken", "rests on one"),
        ("tracewatch.spans", TopicSeen(8, {"message.timestamp.type": "CreateTime"}), "broken", "senders' clocks"),
    ],
)
def test_a_topic_that_was_made_otherwise_is_told(topic: str, seen: TopicSeen, verdict: str, said: str) -> None:
    (one,) = of_topics(SPECS, as_made() | {topic: seen}, 8)
    assert (one.subject, one.verdict) == (topic, verdict)
    assert said in one.seen


@pytest.mark.parametrize(
    ("seen", "verdict", "said"),
    [
        (GroupSeen(0, 0, 0, 3), "broken", "nobody reads"),
        (GroupSeen(0, None, None, 3), "broken", "nobody reads"),
        (GroupSeen(2, 10, 20, 3), "well", "20 records behind"),
        (GroupSeen(2, None, None, 3), "well", "nothing committed"),
        (GroupSeen(2, 9000, 6000, 3), "odd", "level in about 6 s"),
        (GroupSeen(2, 5000, 6000, 3), "broken", "does not catch up"),
        (GroupSeen(2, 6000, 6000, 3), "broken", "does not catch up"),
    ],
)
def test_a_group_that_does_not_read_or_falls_behind_is_told(seen: GroupSeen, verdict: str, said: str) -> None:
    one = of_group("sink", "sink", seen)
    assert one.verdict == verdict
    assert said in one.seen
    assert bool(one.remedy) == (verdict != "well")


@pytest.mark.parametrize(
    ("code", "said", "verdict", "seen"),
    [
        (0, "applied  001_roles\napplied  002_x\n", "well", "2 applied"),
        (3, "applied  001_roles\nmissing  002_x\n", "broken", "missing: 002_x"),
        (1, "migrations: PostgreSQL cannot be reached", "broken", "cannot be reached"),
    ],
)
def test_migrations(code: int, said: str, verdict: str, seen: str) -> None:
    one = of_migrations(code, said)
    assert one.verdict == verdict and seen in one.seen


@pytest.mark.parametrize(("offset_s", "verdict"), [(0.2, "well"), (-0.9, "well"), (5.0, "odd"), (-60.0, "odd")])
def test_clocks(offset_s: float, verdict: str) -> None:
    assert of_clock("PostgreSQL's clock", offset_s).verdict == verdict


def test_the_report_says_what_to_do_below_what_is_broken() -> None:
    said = report([Diagnosis("Kafka", "well", "answers"), Diagnosis("topics", "broken", "missing: a", "Make it.")])
    assert [line.split()[0] for line in said.splitlines()] == ["ok", "BROKEN", "->", "1"]
    assert report([Diagnosis("Kafka", "well", "answers")]).endswith("all is well")
