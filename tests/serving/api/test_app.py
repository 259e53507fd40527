"""The application is plain ASGI: it answers without a socket, a server or a global, and cleans up after itself."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2

import pictures
from serving.api.app import Application, create_app
from serving.api.settings import Settings


def run(app: Application, scenario: Callable[[httpx2.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
                await scenario(client)

    asyncio.run(main())


def app_of(repository: Path, **variables: str) -> Application:
    return create_app(Settings.from_environment({"GANYMEDE_MODELS": str(repository), **variables}))


def test_it_answers_without_a_socket(repository_folder: Path, http: httpx2.Client):
    body = {"model": "tiny-dcgan", "n": 3, "seed": 7}

    async def scenario(client: httpx2.AsyncClient) -> None:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        reply = await client.post("/v1/sample", json=body)
        assert pictures.decode(reply.content).shape[-1] in (1, 3)
        assert reply.content == http.post("/v1/sample", json=body).content, "the same as over HTTP"
        metrics = (await client.get("/metrics")).text
        assert 'ganymede_images_total{model="tiny-dcgan"} 3.0' in metrics

    run(app_of(repository_folder), scenario)


def test_two_in_one_process_share_nothing_and_leave_no_thread(repository_folder: Path):
    before = {thread.name for thread in threading.enumerate()}

    async def scenario(client: httpx2.AsyncClient) -> None:
        assert 'route="/v1/models"' not in (await client.get("/metrics")).text
        assert (await client.get("/v1/models")).status_code == 200

    for _ in range(2):
        run(app_of(repository_folder), scenario)
    batchers = [t.name for t in threading.enumerate() if t.name.startswith("batcher-") and t.name not in before]
    assert batchers == []


def test_layers_apply_in_their_order(repository_folder: Path, tmp_path: Path):
    """CORS is outside of keys, keys are outside of validation, and each reply has a request id."""
    keys = tmp_path / "keys.txt"
    keys.write_text("0" * 64 + " nobody\n")
    app = app_of(repository_folder, GANYMEDE_API_KEYS_FILE=str(keys), GANYMEDE_CORS_ORIGINS="https://a.example")

    async def scenario(client: httpx2.AsyncClient) -> None:
        reply = await client.post("/v1/sample", json={"n": 0}, headers={"Origin": "https://a.example"})
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
        assert reply.headers["access-control-allow-origin"] == "https://a.example"
        assert reply.headers["x-request-id"] == reply.json()["request_id"]
        assert (await client.get("/livez")).status_code == 200

    run(app, scenario)


def test_a_fault_is_a_500_that_tells_nothing(repository_folder: Path, caplog):
    app = app_of(repository_folder)

    async def scenario(client: httpx2.AsyncClient) -> None:
        async def fail(*arguments: object, **options: object) -> None:
            raise RuntimeError("secret")

        for served in app.models:
            object.__setattr__(served.batcher, "run", fail)
        reply = await client.post("/v1/sample", json={}, headers={"X-Request-Id": "fault"})
        assert (reply.status_code, reply.json()["code"]) == (500, "internal-error")
        assert "secret" not in reply.text and "secret" in caplog.text

    run(app, scenario)
