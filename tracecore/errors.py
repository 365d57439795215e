"""Every error that Tracewatch raises on purpose.

TracewatchError
├── InvalidSetting       a setting is wrong: the start stops and names the variable
├── MalformedPayload     bytes that are not what they claim to be, wherever they came from
└── UndecodableRecord    a record that cannot be read, and where it stands: goes to the dead-letter topic
"""


class TracewatchError(Exception):
    """The root of the tree."""


class InvalidSetting(TracewatchError):
    """A setting has a value that cannot be used."""

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(f"{variable}: {reason}")
        self.variable = variable
        self.reason = reason


class MalformedPayload(TracewatchError):
    """Bytes that cannot be decoded as what they claim to be."""


class UndecodableRecord(TracewatchError):
    """A Kafka record that cannot be read, with the evidence a person needs to find it again."""

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(f"{topic}[{partition}]@{offset}: {reason}")
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.reason = reason
