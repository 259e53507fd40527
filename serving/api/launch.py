"""`python -m serving serve`: the service on this machine, checked before it starts and stopped without a trace."""

import http.client
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from serving.api.generators import load_runtimes
from serving.engine.repository import ModelError


def serve(host: str, port: int, models: Path, workers: int) -> int:
    """Serves until Ctrl-C or SIGTERM; returns the exit code.

    A model that is not what its model.json says, or a port that cannot be had, is one line on stderr and exit code 1.
    One worker is this process. Several are BentoML's, under its supervisor.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        listener = listen(host, port)
        runtimes = load_runtimes(models.resolve())
    except (ModelError, ListenError) as error:
        print(f"ganymede: {error}", file=sys.stderr)
        return 1
    # The service reads these when it is imported, here and in BentoML's workers.
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.environ["GANYMEDE_MODELS"] = str(models.resolve())
    os.environ["GANYMEDE_WORKERS"] = str(workers)
    # The server finishes what is in flight and then raises the signal that stopped it once more: for nobody.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    address = listener.getsockname()[:2]
    threading.Thread(target=_announce, args=(*address, runtimes[0].model.id), daemon=True).start()
    if workers == 1:
        _serve_here(listener)
    else:
        load_runtimes.cache_clear()  # the workers load their own
        listener.close()
        _serve_supervised(*address)
    return 0


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
    except OSError as error:
        raise ListenError(f"cannot listen on {host}, port {port}: {error.strerror}.") from error
    return listener


def _serve_here(listener: socket.socket) -> None:
    import uvicorn

    from serving.api.service import Ganymede

    config = uvicorn.Config(Ganymede.to_asgi(), loop="uvloop", http="httptools", log_config=None, server_header=False)
    for name in ("uvicorn", "bentoml"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uvicorn.Server(config).run(sockets=[listener])


def _serve_supervised(host: str, port: int) -> None:
    from serving.api.service import Ganymede

    Ganymede.serve_http(host=host, port=port)


def _announce(host: str, port: int, model: str) -> None:
    """Waits until the server is ready, then says where it is and how to ask it for pictures."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while not _ready(host, port):
        time.sleep(0.02)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    body = json.dumps({"model": model, "n": 64, "seed": 7, "scale": 2})
    print(
        f"\nGanymede serves pictures at {url}\n\n"
        f"    curl {url}/v1/sample -H 'Content-Type: application/json' -d '{body}' -o pictures.png\n\n"
        "Ctrl-C stops it.",
        flush=True,
    )


def _ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
