from tracecore.topics import REPLAY_PARTITION_BYTES, Topics


def test_arrival_is_the_brokers_clock_and_a_replays_is_the_original() -> None:
    topics = Topics("test.")
    config = {spec.name: dict(spec.config) for spec in topics.specs()}
    assert config["test.spans"]["message.timestamp.type"] == "LogAppendTime"
    assert config["otlp_spans"]["message.timestamp.type"] == "LogAppendTime"
    assert config["test.replay"] == {
        "retention.ms": "-1",
        "retention.bytes": str(REPLAY_PARTITION_BYTES),
        "segment.bytes": str(REPLAY_PARTITION_BYTES // 8),
        "message.timestamp.before.max.ms": str(2**63 - 1),
    }


def test_every_topic_is_created_once() -> None:
    topics = Topics("test.", "otlp")
    names = [spec.name for spec in topics.specs()]
    assert len(set(names)) == len(names)
    properties = {name for name in dir(Topics) if isinstance(getattr(Topics, name), property)}
    assert {getattr(topics, name) for name in properties} | {"otlp"} == set(names)
