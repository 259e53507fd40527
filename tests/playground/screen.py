"""What a person sees of the playground and does with it, and what the API says should be there."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Response, expect

import pictures

SIZES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
EACH_SIZE = ["desktop", pytest.param("phone", marks=pytest.mark.slow)]
NPY = "application/x-npy"
PIXELS = """canvas => {
    const { width, height } = canvas;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    return [height, width, Array.from(context.getImageData(0, 0, width, height).data)];
}"""


@dataclass
class Screen:
    page: Page
    url: str
    http: httpx2.Client
    complaints: list[str] = field(default_factory=list)
    loaded: dict[str, int] = field(default_factory=dict)  # bytes of each reply, by path

    @classmethod
    @contextmanager
    def on(cls, browser: Browser, size: str, url: str, http: httpx2.Client, **options: Any) -> Iterator["Screen"]:
        context = browser.new_context(**SIZES[size], **options)
        context.set_default_timeout(20_000)
        screen = cls(context.new_page(), url, http)
        screen._listen()
        yield screen
        context.close()

    def _listen(self) -> None:
        def heard(response: Response) -> None:
            path = urlsplit(response.url).path
            self.loaded[path] = int(response.headers.get("content-length", 0))
            if not response.url.startswith((self.url, "blob:")):
                self.complaints.append(f"asked {response.url}")

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.complaints.append(message.text)

        self.page.on("response", heard)
        self.page.on("pageerror", lambda error: self.complaints.append(f"threw {error}"))
        self.page.on("console", said)

    def is_clean(self) -> None:
        assert self.complaints == [], "\n".join(self.complaints)

    def open(self, query: str = "", ready: str = ".drawn") -> "Screen":
        """Loads the page at `query`, and waits for images in its view."""
        self.page.goto(f"{self.url}/{query}")
        expect(self.page.locator(f"#view {ready}").first).to_be_visible()
        return self

    def settings(self) -> Locator:
        """The settings, opened where they are closed."""
        if not self.page.locator("#controls").is_visible():
            self.page.get_by_text("Settings", exact=True).click()
        return self.page.locator("#controls")

    def state(self, name: str) -> str | None:
        return parse_qs(urlsplit(self.page.url).query).get(name, [None])[0]

    def state_becomes(self, name: str, value: str | None) -> None:
        self.becomes(lambda: self.state(name), value)

    def becomes(self, found: Callable[[], object], wanted: object, seconds: float = 20) -> None:
        """Waits until what is found is as wanted, and fails with what it was last."""
        for _ in range(int(20 * seconds)):
            if same(found(), wanted):
                return
            self.page.wait_for_timeout(50)
        last = found()
        assert same(last, wanted), f"{last} is not {wanted}"

    def shows(self, canvas: Locator, picture: np.ndarray) -> None:
        """Waits until a canvas shows an image (H, W, C), pixel for pixel."""
        self.becomes(lambda: pixels(canvas), rgb(picture))

    def sample(self, **body: object) -> np.ndarray:
        return self.api("/v1/sample", **body)

    def api(self, route: str, **body: object) -> np.ndarray:
        """The images that the API answers with (N, H, W, C)."""
        reply = self.http.post(route, json=body, headers={"Accept": NPY})
        assert reply.status_code == 200, reply.text
        return pictures.of_npy(reply.content)

    def request_text(self, form: str) -> str:
        """What the dock shows in a form: curl, Python or JSON."""
        if not self.page.locator("#request-text").is_visible():
            self.page.get_by_role("button", name="Request").click()
        self.page.get_by_role("tab", name=form).click()
        return self.page.locator("#request-text").inner_text()

    def model(self, able: Callable[[dict[str, Any]], bool]) -> str:
        """The id of the first model that is able."""
        return next(model["id"] for model in self.http.get("/v1/models").json()["models"] if able(model))

    @property
    def digit_model(self) -> str:
        return self.model(lambda model: sorted(model["classes"] or []) == list("0123456789"))

    @property
    def style_model(self) -> str:
        return self.model(lambda model: model["style"] is not None)


def pixels(canvas: Locator) -> np.ndarray:
    """What is on a canvas (H, W, 3)."""
    height, width, values = canvas.evaluate(PIXELS)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def rgb(picture: np.ndarray) -> np.ndarray:
    """(..., H, W, 1 or 3) -> (..., H, W, 3)."""
    return np.broadcast_to(picture, (*picture.shape[:-1], 3))


def same(a: object, b: object) -> bool:
    return np.array_equal(a, b) if isinstance(b, np.ndarray) else a == b  # pyright: ignore[reportArgumentType]


def canvases(node: Locator) -> list[np.ndarray]:
    """Of all canvases within, in order."""
    return [pixels(canvas) for canvas in node.locator("canvas").all()]


def addresses(text: str | None) -> Sequence[tuple[int, int]]:
    """`7:0,8:1` -> [(7, 0), (8, 1)]."""
    return [(int(seed), int(index)) for seed, index in re.findall(r"(\d+):(\d+)", text or "")]
