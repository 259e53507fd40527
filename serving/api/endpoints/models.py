"""`GET /v1/models` and `GET /v1/models/{id}`: what each `model.json` says, and the sha256 over the model's files."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.api.served_models import ServedModels
from serving.engine.repository import Model


class Models:
    """Answers with descriptions of the models."""

    def __init__(self, models: ServedModels):
        self._models = models

    def routes(self) -> list[Route]:
        return [Route("/v1/models", self.list), Route("/v1/models/{id}", self.get)]

    async def list(self, request: Request) -> Response:
        return JSONResponse({"models": [describe(model) for model in self._models.models]})

    async def get(self, request: Request) -> Response:
        return JSONResponse(describe(self._models.get(request.path_params["id"]).model))


def describe(model: Model) -> dict[str, Any]:
    return model.document | {"sha256": model.sha256}
