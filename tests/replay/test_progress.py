"""What a person sees while a replay runs."""

import io
import re

from rich.console import Console

from replay.progress import shown
from replay.stretch import Stretch

S = 1_000_000_000


def test_a_terminal_shows_how_far_it_is_the_rate_and_the_time_left() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    with shown(console, Stretch(0, 100 * S), None) as progress:
        progress.phase("sending")
        for seconds in range(1, 51):
            progress.came_to(seconds * S, records=seconds, spans=seconds * 1000)
    last = screen.getvalue().rpartition("sending")[2]
    assert "50,000 spans" in last
    assert re.search(r"[1-9][\d,]*/s", last)
    assert re.search(r"\d:\d\d:\d\d", last), "time left"
    assert last.count("━") == 19, "half of the bar"


def test_a_pipe_gets_a_line_a_phase() -> None:
    pipe = io.StringIO()
    with shown(Console(file=pipe, force_terminal=False), Stretch(), 10) as progress:
        progress.phase("sending")
        progress.came_to(S, 1, 100)
        progress.share(0.5)
        progress.phase("storing")
    assert pipe.getvalue().split() == ["sending", "storing"]
