"""How much each client may ask for: images a second, with a second's worth saved up."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from serving.api.http.problems import rate_limited

MAX_CLIENTS = 10_000  # remembered; of more, those that asked longest ago are forgotten and start anew


class Quota:
    """A token bucket for each client. A request is let in while the bucket is not empty and may overdraw it, so a large
    one needs no large bucket; what it overdraws must be earned before the next is let in."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic):
        self._rate = rate
        self._clock = clock
        self._balances: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> balance, when it was so

    def check(self, client: str) -> None:
        """Takes one image's worth. Raises Problem 429 from a client that has nothing left."""
        self._take(_network(client), taken=0, more=1)

    def charge(self, client: str, images: int) -> None:
        """Takes the rest of `images`, of which `check` took one. Raises Problem 429 where another request of the
        client's has meanwhile taken what it had: of those that come at once, one may overdraw."""
        self._take(_network(client), taken=1, more=images - 1)

    def _take(self, client: str, *, taken: int, more: int) -> None:
        balance = self._balance(client)
        if balance + taken <= 0:
            raise rate_limited(self._rate, math.floor(-balance / self._rate) + 1)
        self._balances[client] = (balance - more, self._clock())
        self._balances.move_to_end(client)
        if len(self._balances) > MAX_CLIENTS:
            self._balances.popitem(last=False)

    def _balance(self, client: str) -> float:
        most = max(1.0, self._rate)
        balance, then = self._balances.get(client, (most, self._clock()))
        return min(most, balance + (self._clock() - then) * self._rate)


def _network(client: str) -> str:
    """An IPv6 client has 2**64 addresses of its own: its network stands for it. One of IPv4 may be written as IPv6."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client)
    except ValueError:  # the name of a key
        return client
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
