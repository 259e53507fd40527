"""A long range of addresses in pages that a server answers at once: no I/O, so both clients cut alike."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from serving.client import requests
from serving.client.errors import ReplyError
from serving.client.pictures import Pictures
from serving.client.requests import Edits, Label, Labels, Request

IN_FLIGHT = 4  # pages asked for at a time: the server computes one while others travel


class Pages:
    """The requests of a stream, in order, and whether their replies belong together."""

    def __init__(
        self,
        model: str | None,
        *,
        n: int,
        seed: int | None,
        start: int,
        labels: Labels | None,
        truncation: float | None,
        edits: Edits = (),
        page: int,
        in_flight: int,
    ):
        self.n, self.start, self.page = operator.index(n), operator.index(start), operator.index(page)
        self.in_flight = operator.index(in_flight)
        for name, value, least in (("n", self.n, 0), ("page", self.page, 1), ("in_flight", self.in_flight, 1)):
            if value < least:
                raise ValueError(f"`{name}` (={value}) must be {least} or more.")
        self.model, self.truncation, self.edits = model, truncation, edits
        self.seed = requests.draw_seed() if seed is None else operator.index(seed)  # one for all pages
        self.labels: Label | Sequence[Label] | None = labels
        if requests.is_list(labels) and len(labels) != self.n:
            raise ValueError(f"`labels` has {len(labels)} entries; it must be one label for all, or {self.n}.")
        self._model_sha256: str | None = None

    def __iter__(self) -> Iterator[Request[Pictures]]:
        for first in range(0, self.n, self.page):
            n = min(self.page, self.n - first)
            yield requests.sample(
                self.model,
                n=n,
                seed=self.seed,
                start=self.start + first,
                labels=self.labels[first : first + n] if requests.is_list(self.labels) else self.labels,
                truncation=self.truncation,
                edits=self.edits,
            )

    def check(self, page: Pictures) -> Pictures:
        """Raises ReplyError where a page is of other files than those before: the addresses mean other images."""
        self._model_sha256 = self._model_sha256 or page.model_sha256
        return _same_files(page, self._model_sha256)


def joined(pages: Sequence[Pictures]) -> Pictures:
    """The images of several replies as one. Raises ReplyError where they are of different files."""
    first = pages[0]
    if len(pages) == 1:
        return first
    for page in pages:
        _same_files(page, first.model_sha256)
    labels = [label for page in pages for label in page.labels or ()]
    return replace(
        first,
        array=np.concatenate([page.array for page in pages]),
        addresses=[address for page in pages for address in page.addresses],
        labels=None if first.labels is None else labels,
    )


def _same_files(page: Pictures, sha256: str) -> Pictures:
    if page.model_sha256 != sha256:
        reason = f"{page.model} has other files (sha256 {page.model_sha256[:12]}) than for the pages before"
        raise ReplyError(f"{reason} (sha256 {sha256[:12]}).", request_id=page.request_id)
    return page
