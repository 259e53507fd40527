"""`ganymede serve`: checks what is configured, then runs the application on Granian, in one or more workers.

Granian has the sockets, HTTP/1.1, TLS, and the workers: it replaces one that ends. This process only supervises.
"""

import json
import logging
import math
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import FrameType

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from serving.api.access.keys import Keys, KeysError
from serving.api.settings import Settings
from serving.api.telemetry import logs, tracing
from serving.api.telemetry.tracing import TracingError
from serving.engine.repository import ModelError, load_repository

CONNECTIONS = 65_536  # at most; admission control limits requests, so that those beyond are told
BACKLOG = 4096
HEAD_BYTES = 32 * 1024  # buffer for the request line and the headers
GRACE_SECONDS = 5  # after the deadline of the last request, for its reply to be sent

logger = logging.getLogger("ganymede")


class StartError(Exception):
    """The server cannot start; the message says why in one line."""


def serve(host: str, port: int, settings: Settings, *, certificate: Path | None = None, key: Path | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code.

    Where a model, the port, a file or a setting cannot be used, that is one line on stderr and exit code 1.
    """
    logs.configure(settings.log_level)
    models = settings.models.absolute()
    try:
        ip, port, claim = claim_port(host, port)
        _check_tls(certificate, key)
        if settings.api_keys_file is not None:
            Keys(settings.api_keys_file)
        if tracing.configured():
            tracing.Tracing().close()
        repository = load_repository(models)
        folder = _share_metrics() if settings.workers > 1 else None
    except (ModelError, StartError, KeysError, TracingError) as error:
        print(f"ganymede: {error}", file=sys.stderr)
        return 1
    # Imported after the folder is known, whose variable prometheus_client reads when it is imported, and before workers
    # are forked, which then share the memory.
    from serving.api.app import DRAIN_SIGNAL
    from serving.api.served_models import pin
    from serving.api.worker import START_FAILED_SIGNAL

    pin(repository.values())
    os.environ["GANYMEDE_MODELS"] = str(models)
    server = Granian(
        "serving.api.worker:application",
        address=ip,
        port=port,
        interface=Interfaces.ASGI,
        factory=True,
        workers=settings.workers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG,
        backpressure=CONNECTIONS,
        # The timeout holds for the head of a request and for an idle connection alike.
        http1_settings=HTTP1Settings(header_read_timeout=1000 * settings.keep_alive, max_buffer_size=HEAD_BYTES),
        log_level=LogLevels.warning,
        log_dictconfig=logs.config(settings.log_level),
        ssl_cert=certificate,
        ssl_key=key,
        respawn_failed_workers=True,
        workers_kill_timeout=math.ceil(settings.timeout) + GRACE_SECONDS,
    )
    failed = False
    hangups_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # by nohup

    @server.on_startup
    def handle_signals() -> None:
        """Let workers drain before Granian stops them, and stop at once where one cannot start."""
        stop = signal.getsignal(signal.SIGTERM)
        assert callable(stop)
        supervisor, draining = os.getpid(), False

        def drain(number: int, frame: FrameType | None) -> None:
            nonlocal draining
            if os.getpid() != supervisor:  # in a worker that starts: it is a fork, and has no handlers of its own yet
                return os._exit(128 + number) if number == signal.SIGTERM else None
            if draining or number != signal.SIGTERM:  # at a terminal a person waits, or has gone
                return stop(number, frame)
            draining = True
            for worker in multiprocessing.active_children():
                with suppress(ProcessLookupError):
                    os.kill(worker.pid or 0, DRAIN_SIGNAL)
            timer = threading.Timer(settings.drain, stop, (number, frame))
            timer.daemon = True
            return timer.start()

        def start_failed(number: int, frame: FrameType | None) -> None:
            nonlocal failed
            failed = True
            logging.getLogger("_granian").setLevel(logging.ERROR)  # the worker has said why, in one line
            stop(number, frame)

        signal.signal(DRAIN_SIGNAL, signal.SIG_IGN)  # in workers, too, until they can drain
        signal.signal(signal.SIGTERM, drain)
        signal.signal(signal.SIGINT, drain)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if hangups_ignored else drain)  # Granian would replace its workers
        signal.signal(START_FAILED_SIGNAL, start_failed)

    ip = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ip, ip)
    url = f"{'http' if certificate is None else 'https'}://{f'[{ip}]' if ':' in ip else ip}:{port}"
    threading.Thread(target=_announce, args=(url, next(iter(repository))), daemon=True).start()
    try:
        server.serve()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        if claim is not None:
            claim.close()
        if folder is not None:
            folder.cleanup()
    return 1 if failed else 0


def claim_port(host: str, port: int) -> tuple[str, int, socket.socket | None]:
    """Return the address and the port to listen on, a free one for 0, and what keeps other servers from them.

    Each worker listens with SO_REUSEPORT, which would let a second server share the port. So the port is tried without
    it, and claimed by a socket in Linux' abstract namespace, which ends with this process. Raises StartError.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
            ip, port = listener.getsockname()[:2]
        claim = None
        if sys.platform == "linux":
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            claim.bind(f"\0ganymede {ip} {port}")
        return ip, port, claim
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is not a host name"
        raise StartError(f"cannot listen on {host}, port {port}: {reason}.") from None


def _check_tls(certificate: Path | None, key: Path | None) -> None:
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise StartError("`--ssl-certificate` and `--ssl-key` must be given together.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise StartError(f"{certificate}, {key}: not a certificate and its key in PEM: {error.strerror}.") from None


def _share_metrics() -> tempfile.TemporaryDirectory[str]:
    """Make the folder in which workers share their metrics. Raises StartError."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="ganymede-")
    except OSError as error:
        raise StartError(
            f"{error.strerror}; workers share metrics in a temporary folder, which `TMPDIR` can name."
        ) from None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder.name
    return folder


def _announce(url: str, model: str) -> None:
    """Print the address and a first request, once the server is ready."""
    context = ssl.create_default_context() if url.startswith("https") else None
    if context is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is this process's own server
    while not _ready(url, context):
        time.sleep(0.02)
    body = json.dumps({"model": model, "n": 64, "seed": 7, "scale": 2})
    text = (
        f"\nGanymede serves images at {url}\n\n"
        f"    curl {url}/v1/sample -H 'Content-Type: application/json' -d '{body}' -o images.png\n\n"
        "Ctrl-C stops it.\n"
    )
    with suppress(OSError):  # a full disk or a closed pipe does not matter
        os.write(sys.stdout.fileno(), text.encode())


def _ready(url: str, context: ssl.SSLContext | None) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1, context=context) as reply:
            return reply.status == 200
    except OSError:
        return False
