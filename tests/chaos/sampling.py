"""What processes hold over time: memory, files, sockets, threads, processor time; and lag, as rooms tell it. Linux."""

import os
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_LAG: Final = (
    "tracewatch_stream_consumer_lag_records",
    "tracewatch_sink_lag_records",
    "tracewatch_live_api_lag_records",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A process and its children at a time. ``memory_mb`` without mapped files; what they share counts once."""

    at_s: float
    pid: int
    memory_mb: float
    files: int
    sockets: int
    threads: int
    cpu_s: float


@dataclass(slots=True)
class Samples:
    """Samples by the name of the service; and the lag, all rooms together."""

    by_name: dict[str, list[Sample]] = field(default_factory=dict)
    lag: list[tuple[float, int]] = field(default_factory=list)

    def take(self, pids: Mapping[str, int], metrics_ports: Iterable[int], at_s: float) -> dict[str, Sample]:
        """One sample of each, which is returned, too."""
        found = {name: sample for name, pid in pids.items() if (sample := sampled(pid, at_s)) is not None}
        for name, sample in found.items():
            self.by_name.setdefault(name, []).append(sample)
        self.lag.append((at_s, sum(lag_at(port) for port in metrics_ports)))
        return found


def sampled(pid: int, at_s: float) -> Sample | None:
    """A process with all that descends from it; None if it is gone."""
    members = [pid, *_descendants(pid)]
    memory_kb = files = sockets = threads = ticks = 0
    try:
        for member in members:
            memory_kb += _proportional_kb(member)
            names = _files_of(member)
            files += len(names)
            sockets += sum(name.startswith("socket:") for name in names)
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            threads += int(fields[17])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Sample(at_s, pid, memory_kb / 1024, files, sockets, threads, ticks / _TICKS)


def lag_at(port: int) -> int:
    """Records that a room still has to read; 0 if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0
    return round(sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].split(" ")[0] in _LAG))


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [each for child in map(int, children) for each in (child, *_descendants(child))]


def _proportional_kb(pid: int) -> int:
    """Not the files it has mapped: what is a process's share of those changes with who else runs."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def _files_of(pid: int) -> list[str]:
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return names
