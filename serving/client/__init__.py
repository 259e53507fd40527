"""The client: images from a Ganymede server, as arrays and Pillow images with their addresses.

    from serving.client import Client

    with Client("http://127.0.0.1:3000") as client:
        images = client.sample("dcgan-mnist", n=16, seed=7)
        images.save("grid.png")

`AsyncClient` is the same for asyncio. Errors are drawn as a tree in `serving.client.errors`, and the environment that
is read is in `serving.client.connection`.
"""

from serving.client.animation import Animation
from serving.client.async_client import AsyncClient
from serving.client.client import Client
from serving.client.errors import (
    AuthenticationError,
    BadGatewayError,
    BadRequestError,
    BodyTooLargeError,
    CertificateError,
    ConfigurationError,
    ConflictError,
    ConnectionError,
    DeadlineError,
    FieldError,
    GanymedeError,
    HeadTooLargeError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotAcceptableError,
    NotFoundError,
    PermissionDeniedError,
    ProxyAuthenticationError,
    ProxyError,
    RateLimitedError,
    RedirectError,
    ReplyError,
    ServerError,
    SlowRequestError,
    StatusError,
    TimeoutError,
    TransportError,
    UnavailableError,
    UnknownHostError,
    UnsupportedMediaTypeError,
)
from serving.client.models import Model
from serving.client.pictures import Address, Picture, Pictures
from serving.client.streams import AsyncStream, Stream

__all__ = [
    "Address",
    "Animation",
    "AsyncClient",
    "AsyncStream",
    "AuthenticationError",
    "BadGatewayError",
    "BadRequestError",
    "BodyTooLargeError",
    "CertificateError",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "ConnectionError",
    "DeadlineError",
    "FieldError",
    "GanymedeError",
    "HeadTooLargeError",
    "InvalidRequestError",
    "MethodNotAllowedError",
    "Model",
    "NotAcceptableError",
    "NotFoundError",
    "PermissionDeniedError",
    "Picture",
    "Pictures",
    "ProxyAuthenticationError",
    "ProxyError",
    "RateLimitedError",
    "RedirectError",
    "ReplyError",
    "ServerError",
    "SlowRequestError",
    "StatusError",
    "Stream",
    "TimeoutError",
    "TransportError",
    "UnavailableError",
    "UnknownHostError",
    "UnsupportedMediaTypeError",
]
