import time

from hypothesis import given

from tests.tracecore.builders import span, span_id
from tests.tracecore.strategies import spans_of_a_trace
from tracecore.span import Span, SpanKind, identity
from tracecore.tree import NO_PARENT, TraceTree, shared_span_id, trace_tree


def parent_of(tree: TraceTree, number: int) -> bytes:
    i = list(tree.span_ids).index(span_id(number))
    return b"" if tree.parents[i] == NO_PARENT else tree.span_ids[tree.parents[i]]


def warnings_of(tree: TraceTree, number: int) -> str:
    return " ".join(tree.warnings.get(list(tree.span_ids).index(span_id(number)), []))


@given(spans_of_a_trace())
def test_tree_is_well_formed_for_arbitrary_parent_ids(spans: list[Span]) -> None:
    tree = trace_tree(spans)
    size = len({identity(span) for span in spans})
    assert len(tree.spans) == len(tree.span_ids) == len(tree.parents) == len(tree.children) == size
    assert len(set(tree.span_ids)) == size, "a span id is unique in the tree"
    assert tree.duplicates == len(spans) - size
    assert tree.parents[0] == NO_PARENT
    assert tree.root_count == list(tree.parents).count(NO_PARENT)
    for i, parent in enumerate(tree.parents):
        assert parent < i, "a parent stands before its children"
        assert tree.depths[i] == (0 if parent == NO_PARENT else tree.depths[parent] + 1)
        assert all(tree.parents[child] == i for child in tree.children[i])
    assert sorted(child for children in tree.children for child in children) == [
        i for i, parent in enumerate(tree.parents) if parent != NO_PARENT
    ]


def test_parents_stand_before_children_and_siblings_by_start() -> None:
    root = span("root", id=1)
    late = span("late", id=2, parent=root, start_ms=5)
    early = span("early", id=3, parent=root, start_ms=1)
    below = span("below", id=4, parent=early, start_ms=9)
    tree = trace_tree([below, late, early, root])
    assert [node.name for node in tree.spans] == ["root", "early", "below", "late"]
    assert not tree.warnings and not tree.missing_root and not tree.missing_parents


def test_orphan_hangs_under_the_root_with_a_warning() -> None:
    root = span(id=1)
    tree = trace_tree([root, span(id=2, parent=root), span(id=3, parent=99, start_ms=2), span(id=4, parent=99)])
    assert parent_of(tree, 3) == parent_of(tree, 4) == span_id(1)
    assert span_id(99).hex() in warnings_of(tree, 3)
    assert tree.missing_parents == 1, "one parent is missing, though two spans name it"
    assert not tree.missing_root


def test_first_orphan_stands_for_a_missing_root() -> None:
    tree = trace_tree([span(id=3, parent=98, start_ms=7), span(id=2, parent=99, start_ms=5)])
    assert tree.span_ids[0] == span_id(2)
    assert tree.missing_root and tree.missing_parents == 2
    assert "stands for the root" in warnings_of(tree, 2)
    assert parent_of(tree, 3) == span_id(2)


def test_several_roots_stay_roots_and_the_first_by_start_leads() -> None:
    first, second = span(id=2, start_ms=1), span(id=1, start_ms=4)
    tree = trace_tree([second, span(id=3, parent=second, start_ms=5), first])
    assert tree.root_count == 2
    assert list(tree.span_ids) == [span_id(2), span_id(1), span_id(3)]
    assert list(tree.depths) == [0, 0, 1]


def test_span_that_names_itself_is_a_root() -> None:
    tree = trace_tree([span(id=1, parent=1), span(id=2, parent=1)])
    assert list(tree.span_ids) == [span_id(1), span_id(2)]
    assert not tree.missing_root
    assert "itself" in warnings_of(tree, 1)


def test_circle_without_a_root_is_cut_at_its_earliest_span() -> None:
    tree = trace_tree(
        [span(id=1, parent=3, start_ms=3), span(id=2, parent=1, start_ms=1), span(id=3, parent=2, start_ms=2)]
    )
    assert list(tree.span_ids) == [span_id(2), span_id(3), span_id(1)]
    assert tree.missing_root
    assert "circle" in warnings_of(tree, 2)


def test_circle_beside_a_root_hangs_under_it() -> None:
    tree = trace_tree(
        [span(id=9), span(id=1, parent=2, start_ms=1), span(id=2, parent=1, start_ms=2), span(id=3, parent=2)]
    )
    assert parent_of(tree, 1) == span_id(9)
    assert parent_of(tree, 2) == span_id(1)
    assert parent_of(tree, 3) == span_id(2)
    assert not tree.missing_root and not tree.missing_parents


def test_client_and_server_that_share_an_id_are_both_kept() -> None:
    root = span("root", id=1, service="web")
    client = span("call", id=2, parent=root, service="web", kind=SpanKind.CLIENT, start_ms=1)
    server = span("serve", id=2, parent=root, service="app", kind=SpanKind.SERVER, start_ms=2)
    below = span("query", id=3, parent=2, service="app", kind=SpanKind.CLIENT, start_ms=3)
    dns = span("resolve", id=4, parent=2, service="web", start_ms=1)
    tree = trace_tree([below, server, dns, client, root])
    served = shared_span_id(span_id(2))
    assert parent_of(tree, 2) == span_id(1)
    assert tree.span_ids[tree.parents[list(tree.span_ids).index(served)]] == span_id(2)
    assert parent_of(tree, 3) == served, "what the server did hangs under the server"
    assert parent_of(tree, 4) == span_id(2), "what the client did hangs under the client"


def test_client_that_lacks_its_parent_takes_that_of_the_servers_half() -> None:
    root = span(id=1, service="web", kind=SpanKind.SERVER)
    client = span(id=2, service="web", kind=SpanKind.CLIENT, start_ms=1)
    server = span(id=2, parent=root, service="app", kind=SpanKind.SERVER, start_ms=2)
    tree = trace_tree([server, client, root])
    assert tree.root_count == 1
    assert parent_of(tree, 2) == span_id(1)


def test_of_duplicates_the_one_that_ends_last_is_kept_in_any_order() -> None:
    open_ended, whole = span("a", id=1, duration_ms=0), span("b", id=1, duration_ms=5)
    for spans in ([open_ended, whole], [whole, open_ended], [whole, whole, open_ended]):
        tree = trace_tree(spans)
        assert [node.name for node in tree.spans] == ["b"]
        assert tree.duplicates == len(spans) - 1


def test_twenty_thousand_spans_deep_wide_or_circular_are_one_tree_in_seconds() -> None:
    size = 20_000
    template = span(id=1)
    deep = [template] + [
        template._replace(span_id=span_id(i), parent_span_id=span_id(i - 1)) for i in range(2, size + 1)
    ]
    wide = [template] + [template._replace(span_id=span_id(i), parent_span_id=span_id(1)) for i in range(2, size + 1)]
    circle = [span._replace(parent_span_id=span_id(size)) if i == 0 else span for i, span in enumerate(deep)]
    for spans in (deep, wide, circle):
        began = time.process_time()
        tree = trace_tree(spans[::-1])
        assert len(tree.spans) == size
        assert time.process_time() - began < 5, "not quadratic"
    assert trace_tree(deep).depths[-1] == size - 1
