"""What the doctor concludes from what it saw: plain values in, a verdict with what to do out. Asks nobody."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tracecore.topics import TopicSpec

Verdict = Literal["well", "odd", "broken"]

#: A clock that is further off makes spans count at their arrival, and alerts look late or early.
CLOCK_TOLERANCE_S: Final = 1.0
#: Fewer records behind are a moment's work.
LAG_TOLERANCE_RECORDS: Final = 1000
_TIMESTAMP_TYPE: Final = "message.timestamp.type"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Of one thing: how it is, what was seen, and what to do (empty when well)."""

    subject: str
    verdict: Verdict
    seen: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """A topic as the broker describes it; ``config`` may lack what the broker does not tell."""

    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GroupSeen:
    """A consumer group: its members, and how many records it had yet to read at two moments.

    ``members`` is None where the broker does not tell, ``lag_before`` and ``lag_after`` while it has committed nothing.
    """

    members: int | None
    lag_before: int | None
    lag_after: int | None
    between_s: float


def of_topics(specs: Iterable[TopicSpec], seen: Mapping[str, TopicSeen], partitions: int) -> list[Diagnosis]:
    """Whether every topic is there as the stream makes it."""
    specs = list(specs)
    missing = [spec.name for spec in specs if spec.name not in seen]
    if missing:
        remedy = (
            "Start the stream, which makes them: python -m stream. If it runs, it uses another"
            " TRACEWATCH_KAFKA_TOPIC_PREFIX, or its user may not create topics: see its log."
        )
        return [Diagnosis("topics", "broken", f"missing: {', '.join(missing)}", remedy)]
    found = []
    for spec in specs:
        topic = seen[spec.name]
        wanted = partitions if spec.partitioned else 1
        if not spec.partitioned and topic.partitions != 1:
            found.append(
                Diagnosis(
                    spec.name,
                    "broken",
                    f"{topic.partitions} partitions where its order rests on one",
                    f"Delete it while the stream is stopped, and start the stream: it makes {spec.name} anew.",
                )
            )
        elif topic.partitions != wanted:
            found.append(
                Diagnosis(
                    spec.name,
                    "odd",
                    f"{topic.partitions} partitions, TRACEWATCH_KAFKA_PARTITIONS says {wanted}",
                    "A topic keeps the partitions it was made with; set the variable to that number.",
                )
            )
        found += [
            Diagnosis(
                spec.name,
                "broken",
                f"{name} is {topic.config[name]}, not {value}: arrival times would be the senders' clocks",
                f"kafka-configs.sh --alter --topic {spec.name} --add-config {name}={value}",
            )
            for name, value in spec.config
            if name == _TIMESTAMP_TYPE and topic.config.get(name, value) != value
        ]
    return found or [Diagnosis("topics", "well", f"{len(specs)} of {len(specs)}")]


def of_group(title: str, room: str, seen: GroupSeen) -> Diagnosis:
    """Whether somebody reads, and keeps up."""
    readers = "some, as far as can be told," if seen.members is None else str(seen.members)
    if seen.members == 0:
        behind = f", {seen.lag_after} records wait" if seen.lag_after else ""
        return Diagnosis(title, "broken", f"nobody reads{behind}", f"Start one: python -m {room}")
    if seen.lag_after is None:
        return Diagnosis(title, "well", f"{readers} read, nothing committed yet")
    lag, before = seen.lag_after, seen.lag_before or 0
    text = f"{readers} read, {lag} records behind"
    if lag <= LAG_TOLERANCE_RECORDS:
        return Diagnosis(title, "well", text)
    rate = (before - lag) / seen.between_s
    if rate > 0:
        return Diagnosis(title, "odd", f"{text}, level in about {lag / rate:.0f} s", "Wait; it catches up.")
    return Diagnosis(
        title,
        "broken",
        f"{text}, and does not catch up",
        f"Look at its /healthz and log first. If it is well, it needs company: start another python -m {room},"
        " up to the number of partitions.",
    )


def of_migrations(exit_code: int, said: str) -> Diagnosis:
    """By ``python -m migrations status``: 0 all applied, 3 some missing, anything else it could not tell."""
    missing = [line.split()[-1] for line in said.splitlines() if line.startswith("missing")]
    if exit_code == 0:
        return Diagnosis("migrations", "well", f"{len(said.splitlines())} applied")
    if missing:
        seen = f"missing: {', '.join(missing)}"
        return Diagnosis("migrations", "broken", seen, "Apply them: python -m migrations up")
    return Diagnosis("migrations", "broken", said.strip() or f"exit code {exit_code}", "See what it says.")


def of_clock(title: str, offset_s: float) -> Diagnosis:
    """``offset_s``: how far the other clock is ahead of ours."""
    if abs(offset_s) <= CLOCK_TOLERANCE_S:
        return Diagnosis(title, "well", f"{abs(offset_s):.1f} s from ours")
    return Diagnosis(
        title,
        "odd",
        f"{abs(offset_s):.1f} s {'ahead of' if offset_s > 0 else 'behind'} ours",
        "Keep every machine's clock by NTP: chronyc tracking, or timedatectl status, on both.",
    )


def report(found: Sequence[Diagnosis]) -> str:
    """For a person at a terminal: a line each, and below it what to do."""
    width = max(len(one.subject) for one in found)
    lines = []
    for one in found:
        lines.append(f"{_MARKS[one.verdict]}  {one.subject:<{width}}  {one.seen}")
        if one.remedy:
            lines.append(f"{'':<{width + 8}}-> {one.remedy}")
    broken = sum(one.verdict == "broken" for one in found)
    lines.append(f"{broken} broken" if broken else "all is well")
    return "\n".join(lines)


_MARKS: Final[dict[Verdict, str]] = {"well": "ok    ", "odd": "odd   ", "broken": "BROKEN"}
