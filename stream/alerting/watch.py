"""The findings topic to alert events, for live findings or for those of one replay: rounds judged, findings alerted.

A replay is read faster than it happened, and its partitions at unlike speeds: its findings wait until every partition
has come as far, and are then taken in the order of their arrival. Live findings do not wait.
"""

from collections import OrderedDict
from collections.abc import Sequence

from stream.alerting.alerting import Alerting
from stream.alerting.episode import Place
from stream.alerting.rules_file import RuleBook
from stream.detection.judge import Judge
from stream.detection.round import Round
from stream.detection.round_merger import RoundMerger, WholeWindow
from stream.health import HealthKeeper
from tracecore.alert import Alert
from tracecore.finding import Finding
from tracecore.health import Health

#: Findings remembered by name: a worker that reads spans again tells of them again.
MAX_KNOWN = 20_000
#: A live partition that says nothing for this long, while others do, is not waited for.
PATIENCE_NS = 30 * 1_000_000_000


class Watch:
    """One stream of findings and rounds.

    ``alerting`` and ``hours`` are the state to store; the rest is learned anew from rounds.
    """

    def __init__(self, alerting: Alerting, replay_id: str = "") -> None:
        self.alerting = alerting
        self.replay_id = replay_id
        self._is_replay = bool(replay_id)
        self._merger = RoundMerger(None if replay_id else PATIENCE_NS)
        self._judge = Judge(replay_id)
        self.hours = self._judge.hours
        self._waiting: list[Finding] = []
        self._known: OrderedDict[str, None] = OrderedDict()
        # Where the finding at hand stands in its topic. A replay's findings are put in order here, and have no place.
        self._offset: int | None = None
        self._number = 0
        self._health = HealthKeeper(replay_id)
        self._criticality: dict[str, str] = {}
        self._reports: list[Health] = []

    def use(self, book: RuleBook) -> None:
        """Go on by other rules."""
        self.alerting.use(book.rules)
        self._judge.objectives.thresholds, self._judge.objectives.objectives = book.thresholds, book.objectives
        self._judge.tuning = book.tuning

    def learn(self, round_: Round) -> None:
        """Take in a round that was judged before, in an earlier life."""
        for window in self._merger.add(round_):
            self._judge.judge(window)

    def learn_finding(self, finding: Finding) -> None:
        """Take in a finding that was alerted on before, in an earlier life."""
        self._is_known(finding)

    def on_round(self, round_: Round, detected_at_ns: int, offset: int | None = None) -> list[Alert]:
        """Take a round in; the events that follow. ``offset`` is its place in the topic of findings."""
        self._offset, self._number = offset, 0
        self._criticality |= round_.criticality
        alerts = self._judged(self._merger.add(round_), detected_at_ns)
        return alerts + self.flush(detected_at_ns) if self._merger.is_over else alerts

    def on_finding(self, finding: Finding, detected_at_ns: int, offset: int | None = None) -> list[Alert]:
        """Take a finding in; the events that follow. ``offset`` is its place in the topic of findings."""
        self._offset, self._number = offset, 0
        if self._is_known(finding):
            return []
        if self._is_replay:
            self._waiting.append(finding)
            return []
        return self._alerted(finding, detected_at_ns)

    def on_tick(self, now_ns: int, detected_at_ns: int) -> list[Alert]:
        """Time has come to ``now_ns``, though nothing came."""
        return self.alerting.on_tick(now_ns, detected_at_ns)

    def flush(self, detected_at_ns: int) -> list[Alert]:
        """Nothing more will come: judge and tell what still waits."""
        alerts = self._judged(self._merger.flush(), detected_at_ns)
        return alerts + self._released(2**63, detected_at_ns)

    def _judged(self, windows: Sequence[WholeWindow], detected_at_ns: int) -> list[Alert]:
        alerts: list[Alert] = []
        for window in windows:
            alerts += self._released(window.arrival_ns, detected_at_ns)
            for finding in self._judge.judge(window):
                alerts += self._alerted(finding, detected_at_ns)
            alerts += self.alerting.on_tick(window.arrival_ns, detected_at_ns)
            firing = [episode for episode in self.alerting.episodes.values() if episode.status == "firing"]
            self._reports += self._health.reports(window, self._judge.slow, firing, self._criticality)
        return alerts

    def reports(self) -> list[Health]:
        """Health of services in the windows that were judged since the last call."""
        reports, self._reports = self._reports, []
        return reports

    def _released(self, until_ns: int, detected_at_ns: int) -> list[Alert]:
        if not self._waiting:
            return []
        self._waiting.sort(key=lambda finding: (finding.arrival_ns, finding.finding_id))
        alerts: list[Alert] = []
        while self._waiting and self._waiting[0].arrival_ns <= until_ns:
            finding = self._waiting.pop(0)
            alerts += self.alerting.on_tick(finding.arrival_ns, detected_at_ns)
            alerts += self._alerted(finding, detected_at_ns)
        return alerts

    def _alerted(self, finding: Finding, detected_at_ns: int) -> list[Alert]:
        place: Place = () if self._is_replay or self._offset is None else (self._offset, self._number)
        self._number += 1
        return self.alerting.on_finding(finding, detected_at_ns, place)

    def _is_known(self, finding: Finding) -> bool:
        if finding.finding_id in self._known:
            return True
        self._known[finding.finding_id] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return False
