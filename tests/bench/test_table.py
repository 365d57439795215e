"""The table of all benches: medians of the rounds, each beside its bound, and what changed since another commit."""

from bench.figures import Figure, tell
from bench.table import Cost, Row, document, lines

SLOW = Row("stream", [Figure("CPU a span", ours, "us", 12, bare=bare) for ours, bare in ((30, 3), (10, 2), (11, 2.2))])
FAST = Row("sink", [Figure("one writer", 0.4, "of COPY", 0.5, at_least=True)])
COSTS = {"stream": Cost([40.0, 42.0, 41.0], 310.0), "sink": Cost()}


def test_a_row_is_the_median_of_its_rounds_beside_that_of_the_bare_ones() -> None:
    table = lines([SLOW, FAST], COSTS, {})
    assert "| 11.0 us " in table[2] and "10.0 to 30.0" in table[2] and "5.00" in table[2] and "holds" in table[2]
    assert ">= 0.50" in table[3] and "BROKEN" in table[3]
    assert table[-1].endswith("stream 41 s, 310 MB")


def test_a_table_against_another_commit_tells_by_how_much_each_figure_changed() -> None:
    table = lines([SLOW, FAST], COSTS, {("stream", "CPU a span"): 22.0})
    assert "-50%" in table[2] and "new" in table[3]


def test_the_document_holds_every_round() -> None:
    written = document([SLOW, FAST], COSTS, rounds=3)
    assert [each["of_rounds"] for each in written["figures"]] == [[30, 10, 11], [0.4]]
    assert [each["holds"] for each in written["figures"]] == [True, False]
    assert written["rounds"] == 3 and written["cores"]


def test_figures_are_kept_where_a_table_is_made(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("BENCH_FIGURES", str(tmp_path / "kept"))
    assert tell([Figure("delay", 3, "ms", 4)])
    assert not tell(FAST.figures)
    assert len((tmp_path / "kept").read_text().splitlines()) == 2
