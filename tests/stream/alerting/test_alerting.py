from dataclasses import replace

from stream.alerting.alerting import Alerting
from stream.alerting.rules import AlertRule
from stream.alerting.watch import Watch
from tracecore.finding import Finding

SECOND_NS = 1_000_000_000
RULE = AlertRule("ErrorSpans", ("error",), "warning", resolve_after_ns=60 * SECOND_NS)


def finding(at_s: float, service: str = "cart", **fields: object) -> Finding:
    at_ns = int(at_s * SECOND_NS)
    base = Finding(
        finding_id=f"{service}-{at_ns}",
        kind="error",
        service=service,
        operation="op",
        at_ns=at_ns,
        arrival_ns=at_ns,
        observed=1.0,
        unit="errors",
        labels={"error_type": "Timeout"},
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def test_first_error_fires_at_once_and_further_ones_are_the_same_episode() -> None:
    alerting = Alerting([RULE])
    (alert,) = alerting.on_finding(finding(10), 0)
    assert (alert.status, alert.starts_at_ns) == ("firing", 10 * SECOND_NS)
    assert alerting.on_finding(finding(20), 0) == []


def test_quiet_resolves_and_the_end_is_that_of_the_last_evidence() -> None:
    alerting = Alerting([RULE])
    alerting.on_finding(finding(10), 0)
    alerting.on_finding(finding(30), 0)
    assert alerting.on_tick(89 * SECOND_NS, 0) == []
    (alert,) = alerting.on_tick(90 * SECOND_NS, 0)
    assert (alert.status, alert.ends_at_ns, alert.evidence.count) == ("resolved", 30 * SECOND_NS, 2)
    assert alerting.on_tick(200 * SECOND_NS, 0) == []


def test_too_little_evidence_within_the_rules_time_never_fires() -> None:
    alerting = Alerting([replace(RULE, min_count=3, within_ns=10 * SECOND_NS)])
    events = [alerting.on_finding(finding(at), 0) for at in (0, 8, 16, 24)]
    assert events == [[], [], [], []]
    assert len(alerting.on_finding(finding(25), 0)) == 1


def test_condition_must_last_for_as_long_as_the_rule_says() -> None:
    alerting = Alerting([replace(RULE, for_ns=20 * SECOND_NS)])
    assert alerting.on_finding(finding(0), 0) == []
    assert alerting.on_finding(finding(10), 0) == []
    assert len(alerting.on_finding(finding(20), 0)) == 1


def test_error_that_was_passed_on_raises_no_alert_but_names_who_suffers() -> None:
    alerting = Alerting([RULE])
    alerting.on_finding(finding(1, "payment"), 0)
    passed = finding(2, "checkout", labels={"error_type": "Timeout", "caused_by": "payment"})
    assert alerting.on_finding(passed, 0) == []
    (resolved,) = alerting.on_tick(100 * SECOND_NS, 0)
    assert resolved.annotations["impacted"] == "checkout"


def test_alert_carries_the_path_of_its_first_trace_and_samples_whatever_order_they_came_in() -> None:
    bottom_up, top_down = Alerting([RULE]), Alerting([RULE])
    bottom_up.on_finding(finding(1, "payment", trace_id="a1"), 0)
    for at, service in ((2, "checkout"), (3, "gateway")):
        caused = {"error_type": "Timeout", "caused_by": "payment"}
        bottom_up.on_finding(finding(at, service, trace_id="a1", labels=caused), 0)
    bottom_up.on_finding(finding(4, "mobile", trace_id="b2", labels=caused), 0)
    (ended,) = bottom_up.on_tick(100 * SECOND_NS, 0)
    assert (ended.annotations["path"], ended.annotations["traces"]) == ("gateway > checkout > payment", "a1")
    assert ended.annotations["impacted"] == "checkout, gateway, mobile"
    (fired,) = top_down.on_finding(finding(2, "payment", trace_id="a1", impacted=("checkout", "gateway")), 0)
    assert fired.annotations["path"] == "gateway > checkout > payment"


def test_firing_alert_is_told_again_after_the_repeat_interval() -> None:
    alerting = Alerting([replace(RULE, repeat_interval_ns=50 * SECOND_NS)])
    (first,) = alerting.on_finding(finding(0), 0)
    alerting.on_finding(finding(45), 0)
    (again,) = alerting.on_tick(50 * SECOND_NS, 0)
    assert again.event_id == first.event_id


def test_state_restored_from_what_changed_continues_the_episode() -> None:
    before = Alerting([RULE])
    before.on_finding(finding(10), 0)
    stored = [episode for episode in before.changed()[0].values() if episode]
    after = Alerting([RULE], stored)
    assert after.on_finding(finding(11), 0) == []
    assert [alert.status for alert in after.on_tick(100 * SECOND_NS, 0)] == ["resolved"]


def test_same_findings_give_the_same_events() -> None:
    findings = [finding(at) for at in (1, 2, 300, 301)]

    def events() -> list[str]:
        alerting = Alerting([RULE])
        return [
            alert.event_id
            for one in findings
            for alert in [*alerting.on_tick(one.arrival_ns, 0), *alerting.on_finding(one, 0)]
        ]

    assert events() == events()
    assert len(events()) == 3


LEARNING = replace(RULE, learns=True)


def test_error_that_trickles_is_no_news_the_next_time_but_a_burst_of_it_is() -> None:
    alerting = Alerting([LEARNING])
    (first,) = alerting.on_finding(finding(600), 0)
    assert first.annotations["new"]
    for minute in range(20, 120, 10):
        alerting.on_tick((minute - 1) * 60 * SECOND_NS, 0)
        assert alerting.on_finding(finding(minute * 60), 0) == []
    alerting.on_tick(130 * 60 * SECOND_NS, 0)
    burst = [alerting.on_finding(finding(7900 + second), 0) for second in range(6)]
    assert sum(map(len, burst)) == 1


def test_flapping_alert_waits_longer_for_quiet_each_time() -> None:
    alerting = Alerting([RULE])
    quiet_s = []
    at_s = 0.0
    for _ in range(4):
        alerting.on_finding(finding(at_s), 0)
        end_s = at_s
        while not alerting.on_tick(int(end_s * SECOND_NS), 0):
            end_s += 10
        quiet_s.append(end_s - at_s)
        at_s = end_s + 10
    assert quiet_s == [60, 120, 240, 240]


def test_callers_alert_ends_as_soon_as_the_callee_explains_it() -> None:
    alerting = Alerting([RULE])
    (caller,) = alerting.on_finding(finding(1, "checkout"), 0)
    events = alerting.on_finding(finding(2, "payment", impacted=("checkout",)), 0)
    assert [(event.status, event.service) for event in events] == [("firing", "payment"), ("resolved", "checkout")]
    assert events[1].event_id == caller.event_id.replace("firing", "resolved")
    assert events[1].annotations["inhibited_by"] == "payment"


def test_service_that_suffers_is_held_down_while_its_cause_fires_and_speaks_when_it_fails_by_itself() -> None:
    alerting = Alerting([RULE])
    alerting.on_finding(finding(2, "payment", impacted=("checkout",)), 0)
    assert alerting.on_finding(finding(3, "checkout"), 0) == []
    alerting.on_finding(finding(3.5, "payment", impacted=("checkout",)), 0)
    assert alerting.on_tick(20 * SECOND_NS, 0) == []
    assert alerting.on_finding(finding(21, "checkout"), 0) == []
    assert [event.service for event in alerting.on_tick(32 * SECOND_NS, 0)] == ["checkout"], "nothing explained it"


def test_cause_that_is_over_but_still_fires_explains_no_slow_span() -> None:
    shift = AlertRule("LatencyShift", ("latency_shift",), "warning", resolve_after_ns=300 * SECOND_NS)
    slow = AlertRule("SlowSpans", ("slow_span",), "warning", min_count=2)
    alerting = Alerting([shift, slow])
    (cause,) = alerting.on_finding(finding(10, "payment", kind="latency_shift", impacted=("checkout",)), 0)
    assert cause.status == "firing"
    assert [alerting.on_finding(finding(at_s, "checkout", kind="slow_span"), 0) for at_s in (20, 39)] == [[], []]
    (alert,) = alerting.on_finding(finding(41, "checkout", kind="slow_span"), 0)
    assert (alert.status, alert.service) == ("firing", "checkout")


def test_summary_says_whether_a_span_is_slow_or_the_way_to_it() -> None:
    alerting = Alerting([AlertRule("Slow", ("slow_span",), "warning")])
    summaries = []
    for part in ("self_time", "gap"):
        (alert,) = alerting.on_finding(finding(1, kind="slow_span", labels={"part": part}), 0)
        summaries.append(alert.annotations["summary"])
    assert summaries == ["cart op: slow span", "cart op: slow to reach"]


def test_rule_that_is_gone_ends_what_it_began() -> None:
    alerting = Alerting([RULE])
    alerting.on_finding(finding(1), 0)
    alerting.use([])
    assert [alert.status for alert in alerting.on_tick(2 * SECOND_NS, 0)] == ["resolved"]


def test_finding_that_is_read_again_after_a_crash_counts_once_and_tells_nothing_twice() -> None:
    rule = replace(RULE, min_count=3)
    before = Alerting([rule])
    for offset in (7, 8):
        assert before.on_finding(finding(offset), 0, (offset, 0)) == []
    stored = [episode for episode in before.changed()[0].values() if episode]
    after = Alerting([rule], stored)
    assert [after.on_finding(finding(offset), 0, (offset, 0)) for offset in (7, 8)] == [[], []]
    (alert,) = after.on_finding(finding(9), 0, (9, 0))
    assert alert.evidence.count == 3


def test_finding_told_again_by_another_worker_is_the_same_finding() -> None:
    watch = Watch(Alerting([replace(RULE, min_count=2)]))
    assert watch.on_finding(finding(10), 0, 1) == []
    assert watch.on_finding(finding(10), 0, 2) == []
    assert len(watch.on_finding(finding(11), 0, 3)) == 1


def test_new_worker_knows_findings_that_its_predecessor_alerted_on() -> None:
    watch = Watch(Alerting([RULE]))
    watch.learn_finding(finding(10))
    assert watch.on_finding(finding(10), 0, 1) == []
