"""Where the server is and how it is reached, from arguments and the environment, the same for both clients.

GANYMEDE_BASE_URL             the server's address, without `/v1`; http://127.0.0.1:3000 unless set
GANYMEDE_API_KEY              the key to show it; none unless set
HTTP_PROXY or HTTPS_PROXY,    the proxy for addresses of that scheme, or for all: http://, https://, socks5:// or
ALL_PROXY                     socks5h://; lower case counts before upper case
NO_PROXY                      names, addresses and networks that need none: "example.com, .internal, 10.0.0.0/8, ::1"
SSL_CERT_FILE, SSL_CERT_DIR   certificates to trust instead of the system's

A variable that does not apply to the server's address is not read, so it cannot be wrong.
"""

import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import httpx2

from serving import __version__
from serving.client.errors import ConfigurationError

DEFAULT_BASE_URL = "http://127.0.0.1:3000"  # where `ganymede serve` listens
DEFAULT_TIMEOUT = 60.0
DEFAULT_RETRIES = 2
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True)
class Options:
    timeout: float = DEFAULT_TIMEOUT  # seconds an attempt may take
    retries: int = DEFAULT_RETRIES  # attempts after the first; with 0, no refusal is waited for either

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ConfigurationError(f"`timeout` (={self.timeout}) must be a number of seconds above 0.")
        if self.retries < 0:
            raise ConfigurationError(f"`retries` (={self.retries}) must be 0 or more.")

    def but(self, timeout: float | None, retries: int | None) -> "Options":
        """These, but for what is not None."""
        return replace(
            self,
            timeout=self.timeout if timeout is None else timeout,
            retries=self.retries if retries is None else retries,
        )


@dataclass(frozen=True)
class Proxy:
    """A proxy that applies, and where it was found."""

    url: httpx2.URL = field(repr=False)  # with its password
    source: str

    def __str__(self) -> str:
        return f"the proxy {_shown(str(self.url))} ({self.source})"

    @property
    def secure(self) -> bool:
        return self.url.scheme == "https"


@dataclass(frozen=True)
class Server:
    """An address and how it is reached: what a client pickles as. The proxy and the certificates are the machine's."""

    base_url: str
    api_key: str | None = field(repr=False)

    @classmethod
    def of(cls, base_url: str | None, api_key: str | None) -> "Server":
        """From arguments, or the environment. Raises ConfigurationError, which does not show the key."""
        return cls(_address(base_url), _key(api_key))

    def proxy(self) -> Proxy | None:
        """The proxy of this machine that the address is reached through. Raises ConfigurationError."""
        return _proxy(httpx2.URL(self.base_url), getproxies())

    def options(self, proxy: Proxy | None) -> dict[str, Any]:
        """Keyword arguments of `httpx2.Client`, which reads nothing from the environment then.

        Raises ConfigurationError.
        """
        headers = {"User-Agent": f"ganymede-client/{__version__}"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        # Reading the system's certificates takes 20 ms; without https there is nothing to verify.
        secure = self.base_url.startswith("https:") or (proxy is not None and proxy.secure)
        verify = _certificates(os.environ) if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return {
            "base_url": self.base_url,
            "headers": headers,
            "proxy": proxy and httpx2.Proxy(proxy.url, ssl_context=verify if proxy.secure else None),
            "verify": verify,
            "trust_env": False,
        }


def _address(base_url: str | None) -> str:
    name, text = ("base_url", base_url) if base_url else ("GANYMEDE_BASE_URL", os.environ.get("GANYMEDE_BASE_URL", ""))
    url = _url(text.strip() or DEFAULT_BASE_URL)
    if url is None or url.scheme not in ("http", "https") or url.query or url.fragment:
        raise ConfigurationError(f"`{name}` (={_shown(text)}) must be an address such as {DEFAULT_BASE_URL}.")
    return str(url)


def _key(api_key: str | None) -> str | None:
    name, key = ("api_key", api_key) if api_key else ("GANYMEDE_API_KEY", os.environ.get("GANYMEDE_API_KEY"))
    if key and (not key.isascii() or not key.isprintable() or key != key.strip()):
        raise ConfigurationError(f"`{name}` must be printable ASCII, without spaces around it.")
    return key or None


def _proxy(url: httpx2.URL, proxies: Mapping[str, str]) -> Proxy | None:
    """The entry of `proxies`, as `urllib.request.getproxies` gives them, that applies to `url`."""
    kind = url.scheme if proxies.get(url.scheme) else "all"
    text = proxies.get(kind, "").strip()
    if not text or _needs_no_proxy(url, proxies.get("no", "")):
        return None
    proxy = _url(text if "://" in text else f"http://{text}")
    source = _variable(kind, proxies[kind])
    found = f"{source} (={_shown(text)})"
    if proxy is None or proxy.scheme not in PROXY_SCHEMES:
        raise ConfigurationError(f"{found} must be a proxy's address: {', '.join(PROXY_SCHEMES)}, then ://HOST:PORT.")
    if proxy.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError(f"{found} is a SOCKS proxy, which takes the package `socksio`: pip install socksio.")
    return Proxy(proxy, source)


def _variable(kind: str, value: str) -> str:
    """The name under which the environment has a proxy; on macOS and Windows the system may have it instead."""
    names = [name for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY") if os.environ.get(name) == value]
    return f"`{names[0]}`" if names else f"the system's proxy for {kind}"


def _needs_no_proxy(url: httpx2.URL, entries: str) -> bool:
    """True where one of `entries`, as NO_PROXY has them, covers the address."""
    host = url.host.lower().rstrip(".")
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    for entry in filter(None, (entry.strip().lower() for entry in entries.split(","))):
        if entry == "*" or _covers(entry, host):
            return True
        name, _, number = entry.rpartition(":")
        if number == str(port) and _covers(name, host):
            return True
    return False


def _covers(entry: str, host: str) -> bool:
    """True where a name covers `host`, itself or a domain above it, or an address or a network has it."""
    bare = entry.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        domain = bare.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ipaddress.ip_network(bare, strict=False)
    except ValueError:
        return False


def _certificates(environment: Mapping[str, str]) -> ssl.SSLContext:
    """What certificates are verified with: those of the environment, or the system's. Raises ConfigurationError."""
    if file := environment.get("SSL_CERT_FILE"):
        try:
            return ssl.create_default_context(cafile=file)
        except OSError as error:  # ssl.SSLError is one
            wrong = "holds no certificate" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
            raise ConfigurationError(f"`SSL_CERT_FILE` (={file}) {wrong}.") from None
    if folder := environment.get("SSL_CERT_DIR"):
        if not any(Path(part).is_dir() for part in folder.split(os.pathsep)):  # OpenSSL takes several, and any text
            raise ConfigurationError(f"`SSL_CERT_DIR` (={folder}) is no folder.")
        return ssl.create_default_context(capath=folder)
    return httpx2.create_ssl_context(trust_env=False)


def _url(text: str) -> httpx2.URL | None:
    """`text` as a URL with a host; None where it is none."""
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        return None
    valid = url.host and not any(letter.isspace() for letter in text) and (url.port is None or 0 < url.port < 65536)
    return url if valid else None


def _shown(text: str) -> str:
    """An address for a message, on one line, its password left out."""
    scheme, separator, rest = text.rpartition("://")
    account, at, host = rest.rpartition("@")
    shown = f"{scheme}{separator}{'***' if account else ''}{at}{host}"
    return shown if shown.isprintable() else repr(shown)[1:-1]
