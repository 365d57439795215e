"""Faults of the demo shop: which there are, how one is injected, and the order in which they come by themselves."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from quickstart.errors import QuickstartError


@dataclass(frozen=True, slots=True)
class Fault:
    """``kind`` in ``service``. A network delay is on the way to the service."""

    kind: str
    service: str

    @property
    def summary(self) -> str:
        """What a person will see happen."""
        return {
            "errors": f"half of the requests to {self.service} fail",
            "slow": f"{self.service} takes 0.8 s longer",
            "network-delay": f"the network to {self.service} takes 0.4 s longer",
        }[self.kind]


#: In the order in which they come by themselves.
FAULTS: Final = (
    Fault("errors", "yahoo_finance_proxy"),
    Fault("slow", "yahoo_finance_proxy"),
    Fault("network-delay", "yahoo_finance_proxy"),
    Fault("errors", "api-service"),
    Fault("slow", "api-service"),
)
KINDS: Final = tuple(dict.fromkeys(fault.kind for fault in FAULTS))
SERVICES: Final = tuple(dict.fromkeys(fault.service for fault in FAULTS))
FAULT_DURATION_S: Final = 20.0


def inject(fault: Fault, for_s: float, shop_urls: Mapping[str, str]) -> None:
    """Tell the shop to have ``fault``. Blocks briefly; raises QuickstartError when it cannot.

    ``shop_urls``: the base URL of each service, and of ``network``.
    """
    if fault not in FAULTS:
        raise QuickstartError(f"{fault.service} cannot have {fault.kind}; there is no such hop in the demo shop")
    base = shop_urls["network" if fault.kind == "network-delay" else fault.service]
    url = f"{base}/faults/{fault.kind}?{urllib.parse.urlencode({'for_s': for_s})}"
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5).close()
    except urllib.error.HTTPError as error:
        with error:
            answer = json.loads(error.read())
        raise QuickstartError(str(answer.get("error") or answer.get("detail"))) from None
    except OSError as error:
        raise QuickstartError(f"the demo shop does not answer at {base}: {error}") from error
