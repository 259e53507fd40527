"""The interactive page of the API and the OpenAPI document that it shows. Nothing of it is loaded from elsewhere."""

from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from serving.api import openapi as document
from serving.api.http.problems import Problem

FOLDER = Path(__file__).parent / "docs"
MEDIA_TYPES = {"docs.js": "text/javascript; charset=utf-8", "docs.css": "text/css; charset=utf-8"}
# A page that shows what servers answer runs no script but its own, and asks nobody else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def page(request: Request) -> Response:
    """`GET /docs`."""
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
    return Response(_read("docs.html"), media_type="text/html", headers=headers)


async def part(request: Request) -> Response:
    """`GET /docs/{file}`: what the page is made of."""
    name = request.path_params["file"]
    if name not in MEDIA_TYPES:
        raise Problem(404, "unknown-route", f"There is nothing at {request.url.path}.")
    return Response(_read(name), headers={"Content-Type": MEDIA_TYPES[name]})


async def openapi(request: Request) -> Response:
    """`GET /openapi.json`."""
    return Response(_document(), media_type="application/json")


@cache
def _document() -> str:
    return document.text()


@cache
def _read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
