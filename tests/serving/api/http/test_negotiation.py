"""The format that an `Accept` header gets."""

import pytest

from serving.api.http.negotiation import negotiate
from serving.api.http.problems import Problem

OFFERED = ("image/png", "image/jpeg", "image/webp", "application/zip", "application/json")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "image/png"),
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("application/*", "application/zip"),
        ("image/webp", "image/webp"),
        ("IMAGE/WebP", "image/webp"),
        ("application/json; charset=utf-8", "application/json"),
        ("image/webp, image/jpeg", "image/webp"),  # as the sender lists them
        ("image/jpeg, image/webp", "image/jpeg"),
        ("image/jpeg;q=0.5, image/webp;q=0.9", "image/webp"),
        ("image/jpeg;q=0.5, */*;q=0.1", "image/jpeg"),
        ("*/*, application/json", "application/json"),  # what is named goes before a range
        ("text/html, image/webp;q=0.2", "image/webp"),
        ("image/png;q=0, image/*", "image/jpeg"),  # the range of most detail speaks for a type
        ("image/png ; q=0.1 , image/jpeg ; q=0.2", "image/jpeg"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/webp"),  # a browser's
        ("nonsense, image/webp;q=high, image/jpeg", "image/jpeg"),
    ],
)
def test_accept_chooses_the_format(accept: str | None, media_type: str):
    assert negotiate(accept, OFFERED) == media_type


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "image/gif, */*;q=0", "nonsense", "image/png;q=2"])
def test_what_cannot_be_met_is_refused_with_what_could_be(accept: str):
    with pytest.raises(Problem) as caught:
        negotiate(accept, OFFERED)
    assert (caught.value.status, caught.value.code) == (406, "not-acceptable")
    assert accept in caught.value.detail and "application/zip" in caught.value.detail
