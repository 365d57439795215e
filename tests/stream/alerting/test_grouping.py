from dataclasses import replace

from stream.alerting.grouping import SECOND_NS, Grouping, GroupSettings
from stream.alerting.payloads import NO_END, postable_alerts, slack_message, webhook_payload
from tracecore.alert import Alert, Evidence, fingerprint

SETTINGS = GroupSettings(group_wait_ns=2 * SECOND_NS, group_interval_ns=60 * SECOND_NS)


def alert(service: str = "cart", operation: str = "op", **fields: object) -> Alert:
    labels = {
        "alertname": "ErrorSpans",
        "service": service,
        "operation": operation,
        "severity": "warning",
        "kind": "error",
    }
    base = Alert(
        fingerprint=fingerprint(labels),
        status="firing",
        labels=labels,
        annotations={"summary": f"{service}: error", "description": "it fails"},
        starts_at_ns=1_700_000_000 * SECOND_NS,
        updated_at_ns=1_700_000_000 * SECOND_NS,
        ends_at_ns=None,
        detected_at_ns=0,
        evidence=Evidence(1, None, "errors", 1, ()),
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def resolved(one: Alert) -> Alert:
    return replace(one, status="resolved", ends_at_ns=one.starts_at_ns + SECOND_NS)


def test_alerts_of_a_group_are_told_together_after_the_wait() -> None:
    grouping = Grouping(SETTINGS)
    grouping.add(alert(operation="a"), 0)
    grouping.add(alert(operation="b"), SECOND_NS)
    grouping.add(alert("other"), SECOND_NS)
    assert grouping.due(SECOND_NS) == []
    (cart,) = grouping.due(2 * SECOND_NS)
    assert sorted(one.labels["operation"] for one in cart.alerts) == ["a", "b"]
    assert len(grouping.due(3 * SECOND_NS)) == 1


def test_same_event_again_is_not_told_again() -> None:
    grouping = Grouping(SETTINGS)
    grouping.add(alert(), 0)
    assert len(grouping.due(2 * SECOND_NS)) == 1
    grouping.add(alert(), 3 * SECOND_NS)
    assert grouping.due(200 * SECOND_NS) == []


def test_end_is_told_once_and_the_group_is_over() -> None:
    grouping = Grouping(SETTINGS)
    grouping.add(alert(), 0)
    grouping.due(2 * SECOND_NS)
    grouping.add(resolved(alert()), 10 * SECOND_NS)
    assert grouping.due(11 * SECOND_NS) == []
    (notification,) = grouping.due(62 * SECOND_NS)
    assert notification.status == "resolved"
    assert grouping.due(10**6 * SECOND_NS) == []


def test_alert_that_came_and_went_while_the_group_waited_is_not_told() -> None:
    grouping = Grouping(SETTINGS)
    grouping.add(alert(), 0)
    grouping.add(resolved(alert()), SECOND_NS)
    assert grouping.due(10 * SECOND_NS) == []


def test_alert_of_a_replay_is_told_though_it_came_and_went_while_the_group_waited() -> None:
    grouping = Grouping(SETTINGS)
    of_replay = alert(replay_id="r1")
    grouping.add(of_replay, 0)
    grouping.add(resolved(of_replay), SECOND_NS)
    (notification,) = grouping.due(10 * SECOND_NS)
    assert notification.status == "resolved"
    assert grouping.due(10**6 * SECOND_NS) == [], "and once"


def test_what_still_fires_is_told_again_after_the_repeat_interval() -> None:
    grouping = Grouping(SETTINGS)
    grouping.add(alert(), 0)
    grouping.due(2 * SECOND_NS)
    assert len(grouping.due(5 * 3600 * SECOND_NS)) == 1


def test_new_worker_that_learned_what_was_told_tells_only_the_end() -> None:
    grouping = Grouping(SETTINGS)
    grouping.learn(alert(), 0)
    assert grouping.due(10 * SECOND_NS) == []
    grouping.add(resolved(alert()), 20 * SECOND_NS)
    assert [n.status for n in grouping.due(100 * SECOND_NS)] == ["resolved"]


def test_payloads_are_those_that_receivers_know() -> None:
    grouping = Grouping(SETTINGS)
    grouping.add(alert(), 0)
    (notification,) = grouping.due(2 * SECOND_NS)
    webhook = webhook_payload(notification, "webhook-1", "https://tracewatch.example/")
    assert (webhook["version"], webhook["status"]) == ("4", "firing")
    assert webhook["groupLabels"] == {"alertname": "ErrorSpans", "service": "cart"}
    assert webhook["alerts"][0]["startsAt"] == "2023-11-14T22:13:20.000000Z"
    assert webhook["alerts"][0]["endsAt"] == NO_END
    assert webhook["alerts"][0]["generatorURL"].startswith("https://tracewatch.example/alerts?fingerprint=")
    (posted,) = postable_alerts(notification, "")
    assert "endsAt" not in posted and "generatorURL" not in posted
    assert slack_message(notification, "")["text"] == "[FIRING: 1] ErrorSpans cart"
