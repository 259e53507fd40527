"""`python -m serving serve`: the service on this machine, checked before it starts and stopped without a trace."""

import http.client
import json
import logging
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import STARTUP_FAILURE

from serving.api import counters
from serving.api.access.keys import Keys, KeysError
from serving.api.balance import Board
from serving.api.protocol import Protocol
from serving.api.served_models import hold, load_runtimes
from serving.api.settings import Settings
from serving.api.telemetry import logs, tracing
from serving.api.telemetry.tracing import TracingError
from serving.engine.repository import ModelError

ACCEPTED_AT_ONCE = 64
"""libuv 1.52 accepts one connection of a listening socket in each turn of the event loop. Under load turns are long,
and new connections would wait for seconds where nobody can refuse them. Copies of the socket have one each."""

logger = logging.getLogger("ganymede")

GRACE_SECONDS = 5
"""Beyond the deadline of the last request that was taken, for its reply to be sent. Then connections are cut."""


def serve(host: str, port: int, settings: Settings) -> int:
    """Serves until Ctrl-C or SIGTERM; returns the exit code.

    A model that is not what its model.json says, a port that cannot be had, or anything else that is set and cannot be,
    is one line on stderr and exit code 1. One worker is this process; several are its children, and one that dies is
    started again.
    """
    logs.configure(settings.log_level)
    models = settings.models.absolute()
    try:
        check_temporary_folder()
        listener = listen(host, port)
        if settings.api_keys_file is not None:
            Keys(settings.api_keys_file)
        if tracing.configured():
            tracing.Tracing()
        model = load_runtimes(models)[0].model.id
    except (ModelError, ListenError, KeysError, TracingError, FolderError) as error:
        print(f"ganymede: {error}", file=sys.stderr)
        return 1
    # The service reads these when it is imported, here and in workers.
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.environ["GANYMEDE_MODELS"] = str(models)
    os.environ["GANYMEDE_WORKERS"] = str(settings.workers)
    threading.Thread(target=_announce, args=(*listener.getsockname()[:2], model), daemon=True).start()
    config = uvicorn.Config(
        "serving.api.server:application",
        factory=True,
        workers=settings.workers,
        loop="uvloop" if settings.workers == 1 else "serving.api.balance:Loop",
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=math.ceil(settings.timeout) + GRACE_SECONDS,
    )
    if settings.workers == 1:
        listeners = [listener, *(listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1))]
        server = uvicorn.Server(config)
        # It finishes what is in flight and then raises the signal that stopped it once more: for nobody.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: None if server.started else os._exit(128 + number))
        server.run(sockets=listeners)
        return 0 if server.started else 1
    hold(models)
    return _supervise(config, listener)


def application() -> ASGIApp:
    """The service as this process serves it. Under `bentoml serve` it is BentoML that makes it."""
    from bentoml._internal.server.http.traffic import TimeoutMiddleware
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    from serving.api.gate import Gate
    from serving.api.service import Ganymede, metrics, settings

    try:
        load_runtimes(settings.models)
    except ModelError as error:  # of a worker that is started again: a model was changed or taken away meanwhile
        logger.error("%s", error)
        sys.exit(STARTUP_FAILURE)
    supervisor = parent_process()
    if supervisor is not None:
        # The supervisor removes it, however a worker ends; and a disk that became full is not tried.
        tempfile.tempdir = os.environ["PROMETHEUS_MULTIPROC_DIR"]
        threading.Thread(target=_follow, args=(supervisor,), daemon=True).start()
    Protocol.read_timeout = settings.read_timeout
    Protocol.refused = staticmethod(metrics.refused)
    app = cast(Starlette, Ganymede.to_asgi())
    # The gate keeps deadlines and traces; the one would leave a timer of 60 s behind for each request, and the other
    # wraps each of them for nothing.
    ours = (TimeoutMiddleware, OpenTelemetryMiddleware)
    app.user_middleware = [layer for layer in app.user_middleware if layer.cls not in ours]
    gate: Any = app.build_middleware_stack()
    while not isinstance(gate, Gate):  # what is outside of it is for errors, which it answers itself
        gate = gate.app
    Protocol.shed = gate.shed

    async def service(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await gate(scope, receive, send)

    return service


def _supervise(config: uvicorn.Config, listener: socket.socket) -> int:
    """Workers that count into one folder. Exit code 1 where one cannot start, or starting others does not help."""
    from serving.api.supervisor import Supervisor

    with tempfile.TemporaryDirectory(prefix="ganymede-") as folder:
        try:
            counters.check_room(Path(folder), config.workers)
            Board.make(Path(folder), config.workers)
        except OSError as error:
            print(f"ganymede: {folder}: no room for the counters of the workers: {error.strerror}.", file=sys.stderr)
            return 1
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        workers = Supervisor(config, sockets=[listener])
        workers.run()
    return 1 if workers.gave_up or any(process.exitcode == STARTUP_FAILURE for process in workers.processes) else 0


def _follow(supervisor: BaseProcess) -> None:
    """Ends this worker when its supervisor does, however that ended: it would hold the port, with nobody to stop it."""
    supervisor.join()
    os.kill(os.getpid(), signal.SIGTERM)


class FolderError(Exception):
    """Nowhere to write; the message says where it was tried."""


def check_temporary_folder() -> None:
    """BentoML makes a temporary folder when it starts. Raises FolderError where none can be made."""
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise FolderError(f"{error.strerror}; `TMPDIR` can name another folder, which must be writable.") from None


class ListenError(Exception):
    """An address that cannot be listened on; the message says which and why."""


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port`, which connections may already wait on. Raises ListenError."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # two that are bound can still fall out over this
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is no host's name"
        raise ListenError(f"cannot listen on {host}, port {port}: {why}.") from error
    return listener


def _announce(host: str, port: int, model: str) -> None:
    """Waits until the server is ready, then says where it is and how to ask it for pictures."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while not _ready(host, port):
        time.sleep(0.02)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    body = json.dumps({"model": model, "n": 64, "seed": 7, "scale": 2})
    text = (
        f"\nGanymede serves pictures at {url}\n\n"
        f"    curl {url}/v1/sample -H 'Content-Type: application/json' -d '{body}' -o pictures.png\n\n"
        "Ctrl-C stops it.\n"
    )
    with suppress(OSError):  # a full disk, or nobody reads: the server goes on, and nothing is left for its end
        os.write(sys.stdout.fileno(), text.encode())


def _ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
