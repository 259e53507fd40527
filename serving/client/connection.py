"""Where the server is and how it is asked: from arguments or the environment, the same for both clients.

GANYMEDE_BASE_URL   the server's address, without `/v1`; http://127.0.0.1:3000 unless set
GANYMEDE_API_KEY    the key to show it; none unless set
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from serving import __version__

DEFAULT_BASE_URL = "http://127.0.0.1:3000"  # where `ganymede serve` listens
DEFAULT_TIMEOUT = 60.0
DEFAULT_RETRIES = 2


@dataclass(frozen=True)
class Options:
    timeout: float = DEFAULT_TIMEOUT  # seconds an attempt may take
    retries: int = DEFAULT_RETRIES  # attempts after the first; with 0, no refusal is waited for either

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"`timeout` (={self.timeout}) must be a number of seconds above 0.")
        if self.retries < 0:
            raise ValueError(f"`retries` (={self.retries}) must be 0 or more.")

    def but(self, timeout: float | None, retries: int | None) -> "Options":
        """These, but for what is not None."""
        return replace(
            self,
            timeout=self.timeout if timeout is None else timeout,
            retries=self.retries if retries is None else retries,
        )


def address(base_url: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The server's. Raises ValueError where it is no http or https URL."""
    url = base_url or environment.get("GANYMEDE_BASE_URL") or DEFAULT_BASE_URL
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        name = "base_url" if base_url else "GANYMEDE_BASE_URL"
        raise ValueError(f"`{name}` (={url}) must be an address such as {DEFAULT_BASE_URL}.")
    return url


def headers(api_key: str | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What every request carries. Raises ValueError where the key could be no header; it does not show the key."""
    found = {"User-Agent": f"ganymede-client/{__version__}"}
    key = api_key or environment.get("GANYMEDE_API_KEY")
    if key:
        if not key.isascii() or not key.isprintable() or key != key.strip():
            name = "api_key" if api_key else "GANYMEDE_API_KEY"
            raise ValueError(f"`{name}` must be printable ASCII, without spaces around it.")
        found["Authorization"] = f"Bearer {key}"
    return found
