"""Where dead letters go: to Kafka, by librdkafka; before Kafka has them no batch is committed."""

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from sink.errors import StoreAway
from sink.letters import Letter
from sink.reading import client_logger, said_of
from tracecore.settings import KafkaSettings

PUBLISH_TIMEOUT_S = 60
#: The largest letter that Kafka is asked to keep whole.
LARGEST_BYTES = 2_000_000


class LetterBox:
    """Sends dead letters, connected from the first one on. Not for several threads."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._topic = kafka.topics.dead_letters
        self._options = kafka.librdkafka_options() | {
            "client.id": "tracewatch-sink",
            "acks": "all",
            "message.max.bytes": LARGEST_BYTES,
            "message.timeout.ms": PUBLISH_TIMEOUT_S * 1000,
            # A key's partition is that of every other client of ours.
            "partitioner": "murmur2_random",
        }
        self._producer: Producer | None = None

    def send(self, letters: Sequence[Letter]) -> None:
        """Return when Kafka has them all. Raises ``StoreAway`` if it has not: send them all again.

        Of what is larger than Kafka takes back, the value is left out; then all that is not ours: where it stood, and
        why it is here, still come.
        """
        too_large = self._too_large(letters)
        too_large = self._too_large([letter._replace(value=b"") for letter in too_large])
        if self._too_large([letter.bare for letter in too_large]):
            raise StoreAway(f"dead letters cannot be written to Kafka: {self._topic} takes no record of 3 kB")

    def _too_large(self, letters: Sequence[Letter]) -> list[Letter]:
        """Send them, but for those that Kafka finds too large."""
        if self._producer is None:
            self._producer = Producer(self._options, logger=client_logger())
        refused: list[tuple[Letter, KafkaError]] = []
        for letter in letters:

            def told(error: KafkaError | None, _: Message, letter: Letter = letter) -> None:
                if error is not None:
                    refused.append((letter, error))

            try:
                self._producer.produce(
                    self._topic, letter.value, letter.key, on_delivery=told, headers=list(letter.headers)
                )
            except KafkaException as error:
                refused.append((letter, error.args[0]))
            except BufferError as error:
                raise StoreAway(f"dead letters cannot be written to Kafka: {error}") from error
        if self._producer.flush(PUBLISH_TIMEOUT_S + 1):
            raise StoreAway("dead letters cannot be written to Kafka: it does not answer")
        for _, reason in refused:
            if reason.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise StoreAway(f"dead letters cannot be written to Kafka: {said_of(reason)}")
        return [letter for letter, _ in refused]
