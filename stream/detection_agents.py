"""Detection at the edge: the hooks that the span agent calls, a set of them for live spans and for each replay."""

import faust

from stream.detection.error_spans import ErrorSpans
from stream.detection.slow_spans import SlowSpans
from stream.hooks import Hooks
from tracecore.settings import KafkaSettings
from tracecore.topics import Topics


class Detection:
    """The hooks of live spans, and those of each replay, made as they are first asked for."""

    def __init__(self) -> None:
        self._hooks: dict[str, Hooks] = {}

    def hooks_for(self, replay_id: str = "") -> Hooks:
        """The hooks that judge live spans (""), or those of a replay: their baselines never mix."""
        hooks = self._hooks.get(replay_id)
        if hooks is None:
            hooks = self._hooks[replay_id] = Hooks(ErrorSpans(replay_id), SlowSpans(replay_id=replay_id), None)
        return hooks


def attach(app: faust.App, topics: Topics, kafka: KafkaSettings) -> Detection:
    """Make detection's hooks for ``app``."""
    return Detection()
