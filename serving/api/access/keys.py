"""API keys: who may ask. A file of sha256 hashes, read again when it changes, so that a key is revoked by deleting it.

One key a line: 64 hexadecimal digits and, after spaces, a name for the logs and the rate limit. Lines that are empty or
begin with `#` say nothing. A new key, and its line:

    KEY=$(openssl rand -hex 32); printf %s "$KEY" | sha256sum | sed 's/-$/alice/' >> keys.txt

Keys are random and long, so a plain sha256 of one tells nothing; a password would need a slow hash.
"""

import hashlib
import hmac
import logging
import re
from pathlib import Path

logger = logging.getLogger("ganymede")

LINE = re.compile(r"([0-9a-fA-F]{64})(?:\s+(\S.*?))?\s*")


class KeysError(Exception):
    """A file of keys that a server cannot start with; the message says why."""


class Keys:
    """The keys of a file as it is now. Raises KeysError at the start; later what cannot be read lets nobody in."""

    def __init__(self, path: Path):
        self._path = path
        self._version = self._stat()
        self._names = _parse(path)

    def name(self, authorization: str | None) -> str | None:
        """The name of the key that an `Authorization` header presents; None where it presents none that counts."""
        self._refresh()
        scheme, _, key = (authorization or "").partition(" ")
        presented = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for held, name in self._names.items():  # all of them, whichever it is: the time taken tells nothing
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
            logger.info("%s: read again, %d keys", self._path, len(self._names))
        except KeysError as error:
            self._names = {}
            logger.error("%s Nobody is let in until it is mended.", error)

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


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
        raise KeysError(f"{path}: has no API key, so nobody could ask.")
    return names
