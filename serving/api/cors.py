"""Which other sites' pages may ask (the Fetch standard's CORS protocol). None, unless it is set."""

from collections.abc import Collection, Mapping

from starlette.datastructures import MutableHeaders

METHODS = "GET, HEAD, POST"
REQUEST_HEADERS = "Accept, Authorization, Content-Type, If-None-Match, X-Request-Id, X-Request-Timeout"
REPLY_HEADERS = (
    "ETag, Retry-After, Server-Timing, X-Request-Id, X-Ganymede-Model, X-Ganymede-Model-SHA256, X-Ganymede-Version, "
    "X-Ganymede-Seed, X-Ganymede-Start, X-Ganymede-Addresses, X-Ganymede-Labels"
)
A_DAY = "86400"


class Cors:
    def __init__(self, origins: Collection[str]):
        self._origins = origins

    def is_preflight(self, method: str, request: Mapping[str, str]) -> bool:
        """Whether a browser asks what it may ask."""
        return method == "OPTIONS" and "access-control-request-method" in request and self._allows(request)

    def preflight(self) -> dict[str, str]:
        return {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": A_DAY,
        }

    def add(self, request: Mapping[str, str], reply: MutableHeaders) -> None:
        """What lets the page that asked read the reply."""
        if not self._origins:
            return
        if "*" in self._origins:
            reply["Access-Control-Allow-Origin"] = "*"
        else:
            reply.add_vary_header("Origin")
            if not self._allows(request):
                return
            reply["Access-Control-Allow-Origin"] = request["origin"]
        reply["Access-Control-Expose-Headers"] = REPLY_HEADERS

    def _allows(self, request: Mapping[str, str]) -> bool:
        return "origin" in request and ("*" in self._origins or request["origin"] in self._origins)
