"""The playground: one page and its parts, files that lie in `playground/`. Nothing of it is loaded from elsewhere."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from serving.api.http.problems import Problem

FOLDER = Path(__file__).parent / "playground"
PAGE = "index.html"
PREFIX = "/playground/"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The page runs its own modules alone, asks this server alone, and makes no markup out of text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, and asked for again: a new server may have new parts
}


@dataclass(frozen=True)
class Part:
    content: bytes
    media_type: str
    etag: str


async def page(request: Request) -> Response:
    """`GET /`."""
    return _answer(request, parts()[PAGE])


async def part(request: Request) -> Response:
    """`GET /playground/{file}`: what the page is made of."""
    name = request.path_params["file"]
    if name == PAGE or name not in parts():
        raise Problem(404, "unknown-route", f"There is nothing at {request.url.path}.")
    return _answer(request, parts()[name])


def is_part(path: str) -> bool:
    """Whether a path is the page's or one of its parts': they tell nothing, and the page is where a key is entered."""
    return path == "/" or path.startswith(PREFIX)


@cache
def parts() -> dict[str, Part]:
    """By name."""
    made = {}
    for file in sorted(FOLDER.iterdir()):
        content = file.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        made[file.name] = Part(content, MEDIA_TYPES[file.suffix], etag)
    return made


def _answer(request: Request, part: Part) -> Response:
    headers = HEADERS | {"ETag": part.etag}
    held = request.headers.get("if-none-match", "")
    if part.etag in held:
        return Response(status_code=304, headers=headers)
    return Response(part.content, headers=headers | {"Content-Type": part.media_type})
