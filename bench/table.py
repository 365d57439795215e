"""Every bench that has bounds, several rounds in turns, as one table; and as JSON, to compare commits.

    python -m bench table [BENCH ...] [--rounds 3] [--json FILE] [--against FILE]

Each figure is the median of its rounds, with the least and the most of them: on a shared machine figures vary by a
third, ratios to what ran beside them by less. A round of all takes about ten minutes. CPU and memory are the bench's
own, with all that it started: seconds a round, and its largest process.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.figures import KEPT_IN, Figure, number
from tests.services import ROOT

#: With the options that make a round of each a matter of a minute or two.
BENCHES: Final[dict[str, tuple[str, ...]]] = {
    "stream": (),
    "sink": (),
    "alert_delay": (),
    "end_to_end": (),
    "pipeline": (),
    "live_api": ("--rounds", "1"),
    "producer": ("--rounds", "1"),
}


@dataclass(slots=True)
class Row:
    """One figure over the rounds."""

    bench: str
    figures: list[Figure] = field(default_factory=list)

    @property
    def median(self) -> Figure:
        """Ours, the bound and the bare one, each the median of the rounds."""
        first, bares = self.figures[0], [figure.bare for figure in self.figures if figure.bare is not None]
        return Figure(
            first.what,
            statistics.median(figure.ours for figure in self.figures),
            first.unit,
            statistics.median(figure.bound for figure in self.figures),
            first.at_least,
            statistics.median(bares) if bares else None,
        )


@dataclass(slots=True)
class Cost:
    """What the rounds of a bench took: CPU seconds of each; its largest process."""

    cpu_s: list[float] = field(default_factory=list)
    peak_mb: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benches", nargs="*", default=list(BENCHES), help=f"of {', '.join(BENCHES)} (all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--against", type=Path, help="such a file of another commit: print by how much each changed")
    asked = parser.parse_args()
    if unknown := set(asked.benches) - set(BENCHES):
        parser.error(f"no bounds are known of {', '.join(sorted(unknown))}")
    before = json.loads(asked.against.read_text())["figures"] if asked.against else []
    rows, costs = dict[tuple[str, str], Row](), {name: Cost() for name in asked.benches}
    for round_ in range(asked.rounds):
        for name in asked.benches:
            began = time.monotonic()
            for figure in measured(name, costs[name]):
                rows.setdefault((name, figure.what), Row(name)).figures.append(figure)
            print(f"round {round_ + 1} of {asked.rounds}: {name}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(
        *lines(list(rows.values()), costs, {(each["bench"], each["what"]): each["ours"] for each in before}), sep="\n"
    )
    if asked.json:
        asked.json.write_text(json.dumps(document(list(rows.values()), costs, asked.rounds), indent=1) + "\n")
    sys.exit(0 if rows and all(row.median.holds for row in rows.values()) else 1)


def measured(name: str, cost: Cost) -> list[Figure]:
    """One round of one bench; what it prints is shown only if it found nothing."""
    with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as kept, tempfile.TemporaryFile("w+") as said:
        bench = subprocess.Popen(
            [sys.executable, "-m", "bench", name, *BENCHES[name]],
            cwd=ROOT, env={**os.environ, KEPT_IN: kept.name}, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        # Not bench.wait(): only this tells what the process and all that it waited for have used.
        _, status, used = os.wait4(bench.pid, 0)
        bench.returncode = os.waitstatus_to_exitcode(status)
        figures = [Figure(**json.loads(line)) for line in kept]
        if not figures:
            said.seek(0)
            sys.exit(f"{name} measured nothing:\n{said.read()}")
    cost.cpu_s.append(used.ru_utime + used.ru_stime)
    cost.peak_mb = max(cost.peak_mb, used.ru_maxrss / 1024)
    return figures


def lines(rows: Sequence[Row], costs: dict[str, Cost], before: dict[tuple[str, str], float]) -> list[str]:
    """The table, for a terminal and for Markdown."""
    titles = ["bench", "what", "ours", "of the rounds", "bound", "bare", "ratio", "", *(["change"] if before else [])]
    table = [titles, ["---"] * len(titles)]
    for row in rows:
        one, each = row.median, sorted(figure.ours for figure in row.figures)
        cells = [
            row.bench,
            one.what,
            f"{number(one.ours)} {one.unit}",
            f"{number(each[0])} to {number(each[-1])}",
            f"{'>=' if one.at_least else '<='} {number(one.bound)}",
            number(one.bare) if one.bare else "",
            f"{one.ours / one.bare:.2f}" if one.bare else "",
            "holds" if one.holds else "BROKEN",
        ]
        if before:
            was = before.get((row.bench, one.what))
            cells.append(f"{one.ours / was - 1:+.0%}" if was else "new")
        table.append(cells)
    widths = [max(len(cells[column]) for cells in table) for column in range(len(titles))]
    found = [f"| {' | '.join(c.ljust(w) for c, w in zip(cells, widths, strict=True))} |" for cells in table]
    spent = (f"{name} {statistics.median(c.cpu_s):.0f} s, {c.peak_mb:.0f} MB" for name, c in costs.items() if c.cpu_s)
    return [*found, "", f"CPU a round, largest process: {'; '.join(spent)}"]


def document(rows: Sequence[Row], costs: dict[str, Cost], rounds: int) -> dict[str, Any]:
    """All of it, for other programs: every round's figure, where and of what."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": rounds,
        "figures": [
            {
                "bench": row.bench,
                "what": (one := row.median).what,
                "unit": one.unit,
                "ours": one.ours,
                "of_rounds": [figure.ours for figure in row.figures],
                "bound": one.bound,
                "at_least": one.at_least,
                "bare": one.bare,
                "holds": one.holds,
            }
            for row in rows
        ],
        "cost": {name: {"cpu_s": cost.cpu_s, "peak_mb": cost.peak_mb} for name, cost in costs.items()},
    }


if __name__ == "__main__":
    main()
