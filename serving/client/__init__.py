"""The client: pictures from a Ganymede server, as arrays and Pillow images with their addresses.

    from serving.client import Client

    with Client("http://127.0.0.1:3000") as client:
        pictures = client.sample("dcgan-mnist", n=16, seed=7)
        pictures[0].image.show()

Errors are drawn as a tree in `serving.client.errors`.
"""

from serving.client.client import Client
from serving.client.errors import (
    BodyTooLargeError,
    DeadlineError,
    GanymedeError,
    InvalidRequestError,
    NotAcceptableError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    StatusError,
    TimeoutError,
    TransportError,
    UnavailableError,
)
from serving.client.pictures import Picture, Pictures

__all__ = [
    "BodyTooLargeError",
    "Client",
    "DeadlineError",
    "GanymedeError",
    "InvalidRequestError",
    "NotAcceptableError",
    "NotFoundError",
    "Picture",
    "Pictures",
    "RateLimitedError",
    "ServerError",
    "StatusError",
    "TimeoutError",
    "TransportError",
    "UnavailableError",
]
