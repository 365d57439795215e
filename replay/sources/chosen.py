"""The source that a command line names, and the command line that names the same records for ever."""

import argparse
import re

from replay.errors import BadStretch
from replay.sources.history import History
from replay.sources.json_export import JsonExport
from replay.sources.otlp_file import OtlpFile
from replay.sources.source import Source
from replay.sources.topic import Offsets, TopicStretch
from replay.stretch import Stretch, parsed_time, unix_seconds
from tracecore.settings import KafkaSettings


def chosen_stretch(arguments: argparse.Namespace, now_ns: int) -> Stretch:
    """The stretch; a topic's ends now at the latest, so that each reading gives the same. Raises ``BadStretch``."""
    from_ns = parsed_time(arguments.from_time, now_ns) if arguments.from_time else None
    until_ns = parsed_time(arguments.until_time, now_ns) if arguments.until_time else None
    reads_files = arguments.otlp or arguments.jaeger or arguments.zipkin
    if not reads_files:
        until_ns = now_ns if until_ns is None else min(until_ns, now_ns)
    return Stretch(from_ns, until_ns)


def chosen_source(arguments: argparse.Namespace, stretch: Stretch, kafka: KafkaSettings, database_url: str) -> Source:
    """Raises ``SourceUnreadable`` and ``BadStretch``."""
    if arguments.otlp:
        return OtlpFile(arguments.otlp, stretch)
    if arguments.jaeger:
        return JsonExport(arguments.jaeger, "jaeger", stretch)
    if arguments.zipkin:
        return JsonExport(arguments.zipkin, "zipkin", stretch)
    if arguments.history:
        return History(database_url, stretch)
    return TopicStretch(kafka, arguments.topic or kafka.topics.spans, stretch, parsed_offsets(arguments.offsets))


async def fixed_request(arguments: argparse.Namespace, source: Source, stretch: Stretch) -> list[str]:
    """The options of a command line that reads the same records at any later time: times absolute, offsets fixed."""
    request: list[str] = []
    for flag, path in (("--otlp", arguments.otlp), ("--jaeger", arguments.jaeger), ("--zipkin", arguments.zipkin)):
        if path:
            request += [flag, str(path.resolve())]
    if arguments.history:
        request.append("--history")
    if isinstance(source, TopicStretch):
        request += ["--topic", source.topic]
        for partition, (first, end) in sorted((await source.fixed_offsets()).items()):
            request += ["--offsets", f"{partition}:{first}-{end}"]
    for flag, time_ns in (("--from", stretch.from_ns), ("--to", stretch.until_ns)):
        if time_ns is not None:
            request += [flag, unix_seconds(time_ns)]
    for flag, value in (("--service", arguments.service), ("--speed", arguments.speed)):
        if value:
            request += [flag, value]
    if arguments.notify:
        request.append("--notify")
    if arguments.spans_per_s:
        request += ["--spans-per-s", str(arguments.spans_per_s)]
    return [*request, "--workers", str(arguments.workers)]


def parsed_offsets(texts: list[str] | None) -> Offsets | None:
    """``["3:100-200", "4:0-"]`` to ranges by partition. Raises ``BadStretch``."""
    if not texts:
        return None
    ranges: Offsets = {}
    for text in texts:
        found = re.fullmatch(r"(\d+):(\d+)-(\d*)", text)
        if found is None:
            raise BadStretch(f"{text!r} is no range of offsets: write 3:100-200, or 3:100- to the end")
        first, end = int(found[2]), int(found[3]) if found[3] else None
        if end is not None and end < first:
            raise BadStretch(f"{text!r} ends before it begins")
        ranges[int(found[1])] = (first, end)
    return ranges
