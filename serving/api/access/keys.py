"""API keys: a file of sha256 hashes, which is read again when it changes, so that deleting a line revokes a key.

Each line has 64 hexadecimal digits and, after spaces, a name for the logs and the rate limit. Empty lines and those
that begin with `#` are ignored. This makes a new key and its line:

    KEY=$(openssl rand -hex 32); printf %s "$KEY" | sha256sum | sed 's/-$/alice/' >> keys.txt

Keys are random and long, so a plain sha256 reveals nothing; a password would need a slow hash.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Collection
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.http.context import SCOPE_KEY, RequestContext
from serving.api.http.problems import unauthorized

logger = logging.getLogger("ganymede")

LINE = re.compile(r"([0-9a-fA-F]{64})(?:\s+(\S.*?))?\s*")


class KeysError(Exception):
    """The file of keys cannot be used; the message says why."""


class Keys:
    """The keys of a file as it is now. Raises KeysError at the start; a file that becomes unreadable has no keys."""

    def __init__(self, path: Path):
        self._path = path
        self._version = self._stat()
        self._names = _parse(path)

    def name(self, authorization: str | None) -> str | None:
        """Return the name of the key in an `Authorization` header, or None where it has no known key."""
        self._refresh()
        scheme, _, key = (authorization or "").partition(" ")
        presented = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for held, name in self._names.items():  # always all of them: the time taken reveals nothing
            if hmac.compare_digest(held, presented):
                found = name
        return found if scheme.lower() == "bearer" else None

    def _refresh(self) -> None:
        version = self._stat()
        if version == self._version:
            return
        self._version = version
        try:
            self._names = _parse(self._path)
            logger.info("%s: read again; %d keys", self._path, len(self._names))
        except KeysError as error:
            self._names = {}
            logger.error("%s All requests are rejected until it is repaired.", error)

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


class ApiKeyMiddleware:
    """Rejects a request without a known key with 401, but on `open_paths` and under `open_prefixes`."""

    def __init__(self, app: ASGIApp, *, keys: Keys, open_paths: Collection[str], open_prefixes: tuple[str, ...]):
        self.app = app
        self._keys = keys
        self._open_paths = open_paths
        self._open_prefixes = open_prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope["path"]):
            context: RequestContext = scope[SCOPE_KEY]
            name = self._keys.name(context.headers.get("authorization"))
            if name is None:
                raise unauthorized()
            context.client = name
        await self.app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(self._open_prefixes)


def _parse(path: Path) -> dict[bytes, str]:
    """sha256 -> name."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise KeysError(f"{path}: the API keys cannot be read: {reason}.") from None
    names = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise KeysError(f"{path}: line {number} must be 64 hexadecimal digits, the sha256 of a key, and a name.")
        digest = bytes.fromhex(match[1])
        names[digest] = match[2] or match[1][:8].lower()
    if not names:
        raise KeysError(f"{path}: has no API key, so every request would be rejected.")
    return names
