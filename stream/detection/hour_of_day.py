"""What is usual at an hour of the day: a batch every night, a rush every morning.

A rolling baseline takes for news what happens daily. So for each hour of the day (UTC) the highest ten-minute level of
each of the last days is kept, anomalous stretches included, for what is anomalous every night is usual at night. The
median of the days is what the hour is good for: one bad day in three does not move it, and today does not count.
What is observed is news only against both pasts, the rolling one and the hour's.

Assumes days alike in UTC; where clocks change, an hour is unlike twice a year. Cold start: ``MIN_DAYS`` days, until
then the rolling baseline stands alone.
"""

import statistics
from array import array
from collections.abc import Mapping

HOURS, DAYS = 24, 7
#: Days with a level at an hour before the hour counts as known.
MIN_DAYS = 2
_HOUR_NS = 3600 * 1_000_000_000
_ENCODED_BYTES = HOURS * DAYS * 6
#: A level is the mean over this time; what begins this much before or after the full hour belongs to both hours.
LEVEL_NS = 600 * 1_000_000_000
#: Observations that a level needs.
MIN_WEIGHT = 5.0
#: Profiles kept; beyond it a new series has none.
MAX_PROFILES = 10_000


class HourProfile:
    """Highest levels by hour and day. For lowest ones, learn and ask with the sign turned."""

    __slots__ = ("_days", "_expected", "_hour", "_levels", "_slot", "_total", "_weight", "changed")

    def __init__(self, encoded: bytes = b"") -> None:
        # Arrays, for a large system has thousands of these: a kilobyte each.
        self._levels, self._days = array("f"), array("H")
        if len(encoded) == _ENCODED_BYTES:
            self._levels.frombytes(encoded[: HOURS * DAYS * 4])
            self._days.frombytes(encoded[HOURS * DAYS * 4 :])
        else:
            self._levels.extend([0.0] * HOURS * DAYS)
            self._days.extend([0] * HOURS * DAYS)
        self._slot = 0
        self._total = self._weight = 0.0
        self._hour = 0
        self._expected: dict[int, float | None] = {}
        #: True if a level was noted since this was last set to False.
        self.changed = False

    def encoded(self) -> bytes:
        """What to store of it."""
        return self._levels.tobytes() + self._days.tobytes()

    def learn(self, now_ns: int, total: float, weight: float) -> None:
        """Take in observations that end at ``now_ns``: their sum, and how many they are."""
        slot = now_ns // LEVEL_NS
        if slot != self._slot:
            self._note()
            self._slot, self._total, self._weight = slot, 0.0, 0.0
        self._total += total
        self._weight += weight

    def usual(self, now_ns: int) -> float | None:
        """The level that earlier days had around this hour, the higher one at the turn of hours; None if not known."""
        if now_ns // _HOUR_NS != self._hour:
            self._hour, self._expected = now_ns // _HOUR_NS, {}
        near = {(now_ns - LEVEL_NS) // _HOUR_NS, (now_ns + LEVEL_NS) // _HOUR_NS}
        return max((level for hour in near if (level := self._of(hour)) is not None), default=None)

    def _of(self, hour: int) -> float | None:
        if hour not in self._expected:
            today, at = hour // HOURS, hour % HOURS * DAYS
            known = [
                self._levels[index]
                for index in range(at, at + DAYS)
                if 0 < today - self._days[index] <= DAYS and self._days[index]
            ]
            self._expected[hour] = statistics.median_low(known) if len(known) >= MIN_DAYS else None
        return self._expected[hour]

    def _note(self) -> None:
        if self._weight < MIN_WEIGHT:
            return
        level = self._total / self._weight
        today, hour = divmod(self._slot * LEVEL_NS // _HOUR_NS, HOURS)
        index = hour * DAYS + today % DAYS
        if self._days[index] != today or level > self._levels[index]:
            self._days[index], self._levels[index] = today, level
            self.changed = True


class HourProfiles:
    """The profiles of all series, by name."""

    def __init__(self) -> None:
        self._profiles: dict[str, HourProfile] = {}

    def of(self, *name: str) -> HourProfile:
        """The profile of a series; beyond ``MAX_PROFILES`` one that is not kept."""
        key = "\x1f".join(name)
        profile = self._profiles.get(key)
        if profile is None:
            profile = HourProfile()
            if len(self._profiles) < MAX_PROFILES:
                self._profiles[key] = profile
        return profile

    def restore(self, stored: Mapping[str, bytes]) -> None:
        """Go on with what was stored; before the first series is asked for."""
        self._profiles |= {name: HourProfile(encoded) for name, encoded in stored.items()}

    def changed(self, limit: int) -> dict[str, bytes]:
        """Up to ``limit`` profiles that have changed since they were last told, encoded."""
        changed: dict[str, bytes] = {}
        for name, profile in self._profiles.items():
            if profile.changed and len(changed) < limit:
                profile.changed = False
                changed[name] = profile.encoded()
        return changed
