"""The rate limit: images per second for each client, with one second's worth saved up."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from serving.api.http.problems import rate_limited

MAX_CLIENTS = 10_000  # remembered; beyond that the least recent are forgotten and start with a full bucket


class RateLimit:
    """A token bucket for each client.

    A request is accepted while the bucket is not empty and may overdraw it, so that a large request needs no large
    bucket. The overdraft must be refilled before the next request is accepted.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic):
        self._rate = rate
        self._clock = clock
        self._balances: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> balance, time of it

    def charge(self, client: str, images: int) -> None:
        """Take `images` from the client's bucket. Raises Problem 429 where it is empty; then nothing is taken."""
        client = _network(client)
        balance = self._balance(client)
        if balance <= 0:
            raise rate_limited(self._rate, math.floor(-balance / self._rate) + 1)
        self._balances[client] = (balance - images, self._clock())
        self._balances.move_to_end(client)
        if len(self._balances) > MAX_CLIENTS:
            self._balances.popitem(last=False)

    def _balance(self, client: str) -> float:
        capacity = max(1.0, self._rate)
        balance, then = self._balances.get(client, (capacity, self._clock()))
        return min(capacity, balance + (self._clock() - then) * self._rate)


def _network(client: str) -> str:
    """Return the /64 network of an IPv6 address, since one client has 2**64 of them; IPv4 in IPv6 becomes IPv4."""
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client)
    except ValueError:  # the name of a key
        return client
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
