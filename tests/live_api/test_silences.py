"""Silences are set and ended over REST, and live in Kafka."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from live_api.errors import InvalidParameter, NotFound
from live_api.kafka import TopicWriter
from live_api.silences import Silences, check_silence
from tests.conftest import MakeTopic
from tests.live_api.running import LiveApi
from tests.services import KafkaServer, delete_topics
from tracecore.settings import KafkaSettings
from tracecore.silence import Matcher, Silence


def silence(**changed: Any) -> Silence:
    fields = {"silence_id": "s1", "matchers": (Matcher("service", "cart"),), "starts_at_ns": 10, "ends_at_ns": 100}
    return Silence(**{**fields, "created_by": "ann", "comment": "", "updated_at_ns": 10, **changed})


def test_last_word_on_a_silence_holds_whatever_the_order() -> None:
    silences = Silences()
    for each in (silence(updated_at_ns=30, ends_at_ns=30), silence(updated_at_ns=10)):
        silences.observe(each)
    assert [each.ends_at_ns for each in silences.shown(20)] == [30]
    assert silences.expired("s1", 40).ends_at_ns == 30
    with pytest.raises(NotFound):
        silences.expired("s2", 40)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"matchers": ()}, "matchers"),
        ({"matchers": (Matcher("service", ".*", "=~"),)}, "matchers"),
        ({"matchers": (Matcher("service", "(", "=~"),)}, "matchers"),
        ({"ends_at_ns": 10}, "ends_at"),
        ({"ends_at_ns": 10**18}, "ends_at"),
        ({"comment": "x" * 300}, "comment"),
    ],
)
def test_silence_that_would_mute_nothing_or_everything_is_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check_silence(silence(**changed), 20)
    assert refused.value.parameter == named


def test_silence_survives_a_killed_process_and_ends_when_it_is_expired(live_api: LiveApi) -> None:
    ends_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    wanted = {
        "matchers": [{"name": "service", "value": "cart|front", "op": "=~"}],
        "ends_at": ends_at,
        "comment": "deploy",
    }
    status, _, body = live_api.request("POST", "/api/v1/silences", wanted)
    assert status == 201, body
    silence_id = json.loads(body)["silence_id"]
    live_api.kill()
    live_api.start()
    (kept,) = json.loads(live_api.get("/api/v1/silences")[2])["silences"]
    assert (kept["silence_id"], kept["comment"], kept["is_active"]) == (silence_id, "deploy", True)
    status, _, body = live_api.request("DELETE", f"/api/v1/silences/{silence_id}")
    assert (status, json.loads(body)["is_active"]) == (200, False)
    assert live_api.request("DELETE", "/api/v1/silences/none")[0] == 404
    status, _, body = live_api.request("POST", "/api/v1/silences", {**wanted, "ends_at": "2020-01-01T00:00:00Z"})
    assert (status, json.loads(body)["parameter"]) == (400, "ends_at")
    status, _, body = live_api.request("POST", "/api/v1/silences", {**wanted, "comment": "x" * 70_000})
    assert status == 413


async def test_a_writer_ends_soon_though_kafka_does_not_take_its_record(
    apache_kafka: KafkaServer, make_topic: MakeTopic
) -> None:
    topic = make_topic("silences")
    writer = TopicWriter(KafkaSettings(bootstrap_servers=apache_kafka.bootstrap_servers), topic)
    await writer.write(b"s1", b"taken")
    delete_topics(apache_kafka.bootstrap_servers, topic)
    writing = asyncio.create_task(writer.write(b"s2", b"kept back"))
    await asyncio.wait({writing}, timeout=0.2)
    assert not writing.done()
    async with asyncio.timeout(5):  # the client alone would try on for 40 s
        await writer.close()
    writing.cancel()
