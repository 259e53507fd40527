"""Proxies, certificates, addresses and redirects: read where they apply, and wrong ones named with their value."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server import Server, free_port
from serving.__main__ import main
from serving.client import (
    CertificateError,
    ConfigurationError,
    ConnectionError,
    ProxyAuthenticationError,
    ProxyError,
    RedirectError,
    ServerError,
    UnknownHostError,
    connection,
)
from stranger import Stranger, raw

PROXIES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of the variables."""
    for name in (*PROXIES, *map(str.upper, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR", "GANYMEDE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "url"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080", "http://example.org"),
        ("all_proxy", "socks5h://127.0.0.1:1080", "https://example.org"),
        ("HTTPS_PROXY", "socks4://127.0.0.1:1080", "https://example.org"),
        ("HTTP_PROXY", "ftp://127.0.0.1", "http://example.org"),
        ("http_proxy", "http://127.0.0.1:port", "http://example.org"),
        ("HTTP_PROXY", "http://127.0.0.1:99999", "http://example.org"),
        ("HTTP_PROXY", "127.0.0.1:0", "http://example.org"),
        ("HTTP_PROXY", "http://", "http://example.org"),
        ("HTTP_PROXY", "http://pro xy:80", "http://example.org"),
        ("SSL_CERT_FILE", "/nowhere", "https://example.org"),
        ("SSL_CERT_FILE", __file__, "https://example.org"),
        ("SSL_CERT_DIR", "/nowhere", "https://example.org"),
        ("GANYMEDE_BASE_URL", "http://localhost:port", None),
        ("GANYMEDE_BASE_URL", "http://localhost:70000", None),
        ("GANYMEDE_BASE_URL", "http://local host", None),
        ("GANYMEDE_BASE_URL", "http://[::1", None),
        ("GANYMEDE_BASE_URL", "localhost:3000", None),
        ("GANYMEDE_BASE_URL", "http://", None),
        ("GANYMEDE_BASE_URL", "http://localhost/?a=b", None),
        ("GANYMEDE_BASE_URL", "unix:///run/ganymede", None),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(
    connect: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, url: str | None
):
    if value.startswith("socks5"):
        monkeypatch.setattr(connection, "find_spec", lambda name: None)  # as where socksio is not installed
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert f"`{variable}` (={value})" in str(caught.value) and caught.value.code == "configuration"
    assert isinstance(caught.value, ValueError)


def test_a_wrong_variable_is_one_line_without_its_password(connect: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GANYMEDE_BASE_URL", "http://ex\nample.org")
    with pytest.raises(ConfigurationError, match="GANYMEDE_BASE_URL") as caught:
        connect()
    assert len(str(caught.value).splitlines()) == 1
    monkeypatch.setenv("HTTP_PROXY", "ftp://me:secret@proxy")
    with pytest.raises(ConfigurationError, match="HTTP_PROXY") as caught:
        connect("http://example.org")
    assert "secret" not in str(caught.value) and "@proxy" in str(caught.value)


@pytest.mark.parametrize("before", ["\n", " ", "\t "])
def test_an_address_is_stripped(server: Server, connect: Any, monkeypatch: pytest.MonkeyPatch, before: str):
    monkeypatch.setenv("GANYMEDE_BASE_URL", f"{before}{server.url}\n")
    with connect() as client, connect(f"{before}{server.url} ") as other:
        assert client.base_url == other.base_url == server.url
        assert len(client.models()) == len(other.models()) == 3


@pytest.mark.parametrize(
    "environment",
    [
        {"ALL_PROXY": "socks5://127.0.0.1:1", "NO_PROXY": "localhost, 127.0.0.1"},
        {"all_proxy": "nonsense://", "no_proxy": "127.0.0.0/8"},
        {"HTTP_PROXY": "ftp://127.0.0.1:1", "NO_PROXY": "*"},
        {"HTTPS_PROXY": "socks4://127.0.0.1:1", "SSL_CERT_FILE": "/nowhere", "SSL_CERT_DIR": "/nowhere"},
        {"FTP_PROXY": "http://127.0.0.1:1", "http_proxy": ""},
    ],
    ids=str,
)
def test_a_variable_that_does_not_apply_is_not_read(
    server: Server, connect: Any, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with connect(server.url) as client:
        assert len(client.models()) == 3


@pytest.mark.parametrize(
    ("url", "entries", "proxied"),
    [
        ("http://example.org", "", True),
        ("http://example.org", "example.org", False),
        ("http://www.example.org", "example.org", False),
        ("http://www.example.org", " .example.org ,other", False),
        ("http://www.example.org", "*.example.org", False),
        ("http://myexample.org", "example.org", True),
        ("http://example.org.evil", "example.org", True),
        ("http://EXAMPLE.org", "Example.ORG", False),
        ("http://example.org.", "example.org", False),
        ("http://example.org:3000", "example.org:3000", False),
        ("http://example.org:3001", "example.org:3000", True),
        ("http://example.org", "example.org:80", False),
        ("https://example.org", "example.org:443", False),
        ("http://10.1.2.3", "10.0.0.0/8", False),
        ("http://11.1.2.3", "10.0.0.0/8", True),
        ("http://10.1.2.3:3000", "10.1.2.3", False),
        ("http://10.1.2.3:3000", "10.1.2.3:3000", False),
        ("http://[::1]:3000", "::1", False),
        ("http://[::1]:3000", "[::1]", False),
        ("http://[::1]:3000", "[::1]:3000", False),
        ("http://[fd00::7]", "fd00::/8", False),
        ("http://[::1]", "127.0.0.1", True),
        ("http://example.org", "*", False),
        ("http://example.org", ", ,/,..,300.0.0.0/99", True),
    ],
)
def test_no_proxy_covers_names_addresses_networks_and_ports(
    monkeypatch: pytest.MonkeyPatch, url: str, entries: str, proxied: bool
):
    monkeypatch.setenv("ALL_PROXY", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", entries)
    found = connection.Server.of(url, None).proxy()
    assert (None if found is None else str(found.url)) == ("http://proxy:3128" if proxied else None)


def test_a_proxy_passes_requests_on(server: Server, connect: Any, stranger: Stranger, monkeypatch: pytest.MonkeyPatch):
    reply = httpx2.get(f"{server.url}/v1/models").content
    monkeypatch.setenv("HTTP_PROXY", stranger.url.replace("http://", "http://me:secret@"))
    stranger.answers.append(raw(reply))
    with connect("http://far.invalid:3000") as client:
        assert len(client.models()) == 3
    head = stranger.requests[0].lower()
    assert head.startswith(b"get http://far.invalid:3000/v1/models ") and b"proxy-authorization: basic " in head


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "https://127.0.0.1:9"])
def test_a_proxy_that_is_gone_or_rejects_is_named(
    connect: Any, stranger: Stranger, monkeypatch: pytest.MonkeyPatch, url: str
):
    variable = f"{url.partition(':')[0].upper()}_PROXY"
    monkeypatch.setenv(variable, gone := f"http://127.0.0.1:{free_port()}")
    with connect(url, retries=0) as client, pytest.raises(ProxyError) as caught:
        client.models()
    assert gone in str(caught.value) and f"`{variable}`" in str(caught.value) and caught.value.code == "proxy"
    monkeypatch.setenv(variable, stranger.url.replace("http://", "http://me:secret@"))
    stranger.answers += [raw(b"", status="407 Proxy Authentication Required"), raw(b"", status="502 Bad Gateway")]
    with connect(url, retries=0) as client:
        kinds = (ProxyAuthenticationError, ServerError) if url.startswith("http:") else (ProxyError, ProxyError)
        for kind, status in zip(kinds, ("407", "502"), strict=True):
            with pytest.raises(kind, match=status) as caught:
                client.models()
            said = str(caught.value)
            assert f"`{variable}`" in said and stranger.url.rpartition("/")[2] in said and "secret" not in said


@pytest.mark.parametrize(
    ("base", "location", "target", "address"),
    [
        ("", "https://example.org/v1/models", "https://example.org/v1/models", "https://example.org "),
        ("/api", "https://a.org/api/v1/models", "https://a.org/api/v1/models", "https://a.org/api "),
        ("", "/other/v1/models", "{url}/other/v1/models", "{url}/other "),
        ("", "https://login.org/?next=1", "https://login.org/?next=1", None),
    ],
)
def test_a_redirect_shows_its_target(
    connect: Any, stranger: Stranger, base: str, location: str, target: str, address: str | None
):
    for status in ("301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"):
        stranger.answers.append(raw(b"", f"Location: {location}", status=status))
        with connect(stranger.url + base) as client, pytest.raises(RedirectError) as caught:
            client.models()
        assert (caught.value.code, caught.value.status) == ("redirect", int(status[:3]))
        assert caught.value.location == target.format(url=stranger.url)
        advice = address and f"use {address.format(url=stranger.url)}as `base_url`"
        assert (advice or "answers no request") in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, beside its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -days 2"
    names = ["-subj", "/CN=ganymede", "-addext", "subjectAltName=IP:127.0.0.1", "-out", "certificate.pem"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def secure(serve: Any, certificate: Path) -> Iterator[Server]:
    options = ["--ssl-certificate", str(certificate), "--ssl-key", str(certificate.with_name("key.pem"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "_ready", ready)
        with serve(*options, GANYMEDE_DRAIN="0") as server:
            yield server


def ready(server: Server) -> bool:
    try:
        return httpx2.get(f"https://127.0.0.1:{server.port}/readyz", verify=False).is_success
    except httpx2.TransportError:
        return False


def test_why_there_is_no_connection_is_told_apart(
    connect: Any, secure: Server, server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    def error(url: str) -> ConnectionError:
        with connect(url, retries=0) as client, pytest.raises(ConnectionError) as caught:
            client.models()
        return caught.value

    https = secure.url.replace("http://", "https://")
    untrusted, unknown = error(https), error("http://none.invalid")
    closed, plain = error(f"http://127.0.0.1:{free_port()}"), error(server.url.replace("http://", "https://"))
    kinds = [(type(e), e.code) for e in (untrusted, unknown, closed, plain)]
    assert kinds == [
        (CertificateError, "certificate"),
        (UnknownHostError, "unknown-host"),
        (ConnectionError, "connection"),
        (ConnectionError, "connection"),
    ]
    assert "self-signed" in str(untrusted) and "`none.invalid`" in str(unknown)
    assert "refused" in str(closed) and "TLS" in str(plain)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with connect(https) as client:
        assert len(client.models()) == 3
    assert type(error(https.replace("127.0.0.1", "localhost"))) is CertificateError


@pytest.mark.parametrize(("no_proxy", "code"), [("127.0.0.1", 0), ("", 1)])
def test_a_dataset_from_servers_says_what_is_wrong_with_a_proxy(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    no_proxy: str,
    code: int,
):
    """And advises no extra: those it has."""
    monkeypatch.setenv("ALL_PROXY", "ftp://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    command = ["generate", "tiny-dcgan", "-n", "2", "--out", str(tmp_path), "--engine", "server", server.url]
    assert main([*command, "--dry-run"]) == code
    said = capsys.readouterr().err
    if code:
        assert len(said.splitlines()) == 1 and "`ALL_PROXY` (=ftp://127.0.0.1:1)" in said and "extra" not in said
