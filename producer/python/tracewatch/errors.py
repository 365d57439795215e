"""What can go wrong in the instrumentation, drawn as one tree.

TracewatchError
├── InvalidSetting      an environment variable or argument has a value that cannot be used
└── MissingPackage      an extra is needed and not installed

Nothing else is ever raised into a service: delivery counts and logs what it loses.
"""


class TracewatchError(Exception):
    """Base of every error that this package raises."""


class InvalidSetting(TracewatchError, ValueError):
    """A setting that stops the start, named by its variable or argument."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"{name}={value!r} cannot be used: expected {expected}")
        self.name = name
        self.value = value
        self.expected = expected


class MissingPackage(TracewatchError, ImportError):
    """An optional dependency is absent; the message says which extra brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'tracewatch[{extra}]'")
        self.package = package
        self.extra = extra
