"""The interactive page of the API and the OpenAPI document that it shows.

The document and the Swagger UI files are BentoML's; the page is not, for BentoML's own loads a tracker.
"""

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from serving import __version__

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Ganymede</title>
<link rel="stylesheet" href="static_content/swagger-ui.css">
<div id="api"></div>
<script src="static_content/swagger-ui-bundle.js" charset="utf-8"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#api"});</script>
</html>
"""


async def page(request: Request) -> Response:
    """`GET /` and `GET /docs`."""
    return HTMLResponse(PAGE)


async def openapi(request: Request) -> Response:
    """`GET /openapi.json`."""
    document = request.app.state.service.openapi_spec.asdict()
    document["info"] = {
        "title": "Ganymede",
        "version": __version__,
        "description": "Pictures from generative adversarial networks.",
    }
    del document["paths"]["/metrics"]  # BentoML's, which are off
    return JSONResponse(document)
