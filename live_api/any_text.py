"""``{name:text}`` in a route: a parameter of the path that may hold anything, slashes and line feeds too.

Services name themselves. Starlette's own ``{name:path}`` takes slashes, but ends at a line feed.
"""

from starlette.convertors import Convertor, register_url_convertor


class AnyText(Convertor[str]):
    """At least one character of any kind."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        """As it came."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor("text", AnyText())
