"""What goes wrong while history is kept.

TracewatchError
├── PoisonRow        a row that PostgreSQL cannot hold: it alone goes to the dead letters
├── Overtaken        another sink stored these offsets: drop the batch, read again from what PostgreSQL says
├── StoreAway        PostgreSQL cannot be reached, or is not itself: wait and try again
├── KafkaAway        Kafka cannot be reached, or does not let us in
└── SchemaMissing    PostgreSQL answers, but has no tables of ours: migrate first
"""

from tracecore.errors import TracewatchError


class PoisonRow(TracewatchError):
    """A row that PostgreSQL cannot hold, and why."""


class Overtaken(TracewatchError):
    """The offsets in PostgreSQL are not those that this batch goes on from."""


class StoreAway(TracewatchError):
    """PostgreSQL is not there, for now."""


class KafkaAway(TracewatchError):
    """Kafka is not there, or not for us."""


class SchemaMissing(TracewatchError):
    """The database has no tables of ours, or older ones."""
