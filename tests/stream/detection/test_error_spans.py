from stream.detection.error_spans import ErrorSpans
from tests.stream.detection.builders import SECOND_NS, failed, span

NOW = 5 * SECOND_NS


def test_error_spans_of_a_record_are_grouped_by_service_operation_and_type() -> None:
    spans = [failed("cart", trace=n, span_id=1, attributes={"error.type": "Timeout"}) for n in range(1, 4)]
    spans += [failed("cart", trace=9, attributes={"http.response.status_code": "503"}), span("cart", trace=10)]
    findings = ErrorSpans().on_spans(spans, NOW, 0)
    assert [(f.labels["error_type"], f.observed) for f in findings] == [("Timeout", 3.0), ("503", 1.0)]


def test_parent_that_arrives_after_its_failed_child_passes_the_error_on() -> None:
    hook = ErrorSpans()
    child = failed("payment", span_id=2, parent=1)
    (origin,) = hook.on_spans([child], NOW, 0)
    (passed,) = hook.on_spans([failed("checkout", span_id=1)], NOW, 0)
    assert "caused_by" not in origin.labels
    assert passed.labels["caused_by"] == "payment"


def test_origin_is_the_deepest_failed_span_even_when_one_record_brings_the_chain_in_reverse() -> None:
    chain = [
        failed("frontend", span_id=1, end_ns=3 * SECOND_NS),
        failed("checkout", span_id=2, parent=1, end_ns=2 * SECOND_NS),
        failed("payment", span_id=3, parent=2, end_ns=1 * SECOND_NS),
    ]
    found = {f.service: f.labels.get("caused_by") for f in ErrorSpans().on_spans(chain, NOW, 0)}
    assert found == {"payment": None, "checkout": "payment", "frontend": "payment"}


def test_child_that_arrives_after_its_failed_parents_explains_them() -> None:
    hook = ErrorSpans()
    hook.on_spans([failed("frontend", span_id=1)], NOW, 0)
    hook.on_spans([failed("checkout", span_id=2, parent=1)], NOW, 0)
    (finding,) = hook.on_spans([failed("payment", span_id=3, parent=2)], NOW, 0)
    assert finding.impacted == ("checkout", "frontend")


def test_a_cycle_of_parents_ends() -> None:
    hook = ErrorSpans()
    hook.on_spans([failed("a", span_id=1, parent=2), failed("b", span_id=2, parent=1)], NOW, 0)
    assert hook.on_spans([failed("c", span_id=3, parent=1)], NOW, 0)


def test_reading_a_record_again_gives_findings_of_the_same_names() -> None:
    spans = [failed("cart", attributes={"error.type": "Timeout"})]
    first, again = (ErrorSpans().on_spans(spans, NOW, 0) for _ in range(2))
    assert [f.finding_id for f in first] == [f.finding_id for f in again]
