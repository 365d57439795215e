"""One bug must not stop what has nothing to do with it: what a call gives, or what it raised, for later."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def attempt(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """What ``call`` returns, or the exception that it raised."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return error
