"""Routes that refuse a query parameter they do not know: a misspelt filter would otherwise find too much, silently."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from live_api.errors import InvalidParameter


class StrictRoute(APIRoute):
    """A route of our own API. Foreign ones ignore what they do not know, as their clients expect."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, behind a look at the names."""
        handle = super().get_route_handler()
        known = _query_names(self.dependant)

        async def checked(request: Request) -> Response:
            for name in request.query_params:
                if name not in known:
                    takes = f"which takes {', '.join(sorted(known))}" if known else "which takes none"
                    raise InvalidParameter(name[:64], f"is no parameter of this path, {takes}")
            return await handle(request)

        return checked


def _query_names(dependant: Dependant) -> set[str]:
    names = {parameter.alias for parameter in dependant.query_params}
    return names.union(*(_query_names(each) for each in dependant.dependencies))
