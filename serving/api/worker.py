"""A worker of `ganymede serve`: the application as Granian runs it in a process of its own.

The supervisor imports this module before it starts workers, so that they, which are forks of it, share its memory.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import NoReturn

from granian.utils.proxies import wrap_asgi_with_proxy_headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.access.keys import KeysError
from serving.api.app import create_app
from serving.api.served_models import load_runtimes
from serving.api.settings import Settings
from serving.engine.repository import ModelError

START_FAILED_SIGNAL = signal.SIGUSR2  # of a worker to its supervisor: it has said why, and the next would fail as well
IPV4_IN_IPV6 = "::ffff:"
GRACE_SECONDS = 5  # until the supervisor ends a worker that cannot start
TURN = os.pipe()  # shared by all workers; the first that cannot start takes the byte in it, and says why
os.write(TURN[1], b"1")
os.set_blocking(TURN[0], False)


def application() -> ASGIApp:
    """Return the application in a worker process, or end the server where it cannot start."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os.kill(os.getpid(), signal.SIGKILL)), daemon=True).start()
    settings = Settings.from_environment()
    try:
        load_runtimes(settings.models)
        app = create_app(settings)
    except (ModelError, KeysError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}; workers share metrics in a temporary folder, see `TMPDIR`.")
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
    forwarded = wrap_asgi_with_proxy_headers(app, trusted)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C goes to the supervisor, too
            return await app(scope, receive, send)
        address, port = scope["client"]
        if address.startswith(IPV4_IN_IPV6):
            scope["client"] = (address.removeprefix(IPV4_IN_IPV6), port)
        if any(name.startswith(b"x-forwarded-") for name, _ in scope["headers"]):  # else 8 % of the loop
            return await forwarded(scope, receive, send)
        return await app(scope, receive, send)

    return application


def _fail(message: str) -> NoReturn:
    with suppress(BlockingIOError):
        os.read(TURN[0], 1)
        print(f"ganymede: {message}", file=sys.stderr, flush=True)
        os.kill(os.getppid(), START_FAILED_SIGNAL)
    time.sleep(GRACE_SECONDS)
    sys.exit(1)
