"""The playground and the API reference: files that a browser loads from this server alone."""

import mimetypes
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from serving.api import openapi

FOLDER = Path(__file__).parent
PLAYGROUND = "/playground/"
# The pages run their own scripts alone and send requests to this server alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TRUSTED_TYPES = "; require-trusted-types-for 'script'; trusted-types 'none'"  # no markup is made out of text

mimetypes.add_type("text/javascript", ".js")  # Python 3.11 has another name for it


class Page(StaticFiles):
    """A folder with an `index.html`, which is served at `path`, and its parts, below it."""

    def __init__(self, name: str, path: str, policy: str):
        super().__init__(directory=FOLDER / name)
        self._name, self._path = name, path
        self._headers = {
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",  # kept, and validated by ETag: a new server may have new files
        }

    def routes(self) -> list[BaseRoute]:
        return [Route(self._path, self._index), Mount(f"/{self._name}", self)]

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(self._headers)
        return response

    async def _index(self, request: Request) -> Response:
        return await self.get_response("index.html", request.scope)


def routes() -> list[BaseRoute]:
    return [
        Route("/openapi.json", _openapi),
        Route("/schema.json", _schema),
        *Page("docs", "/docs", POLICY).routes(),
        *Page("playground", "/", POLICY + TRUSTED_TYPES).routes(),
    ]


async def _openapi(request: Request) -> Response:
    return Response(_document(), media_type="application/json")


async def _schema(request: Request) -> Response:
    """Answer with the document that BentoML's clients read first; it is generated from `service` by `make docs`."""
    return Response(_bentoml_schema(), media_type="application/json")


@cache
def _document() -> str:
    return openapi.text()


@cache
def _bentoml_schema() -> bytes:
    return (FOLDER / "schema.json").read_bytes()
