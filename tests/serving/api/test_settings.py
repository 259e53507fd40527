"""Settings: every variable has its range, and what is wrong is told with it."""

import re
from pathlib import Path

import pytest

from serving.api.settings import Settings


def test_nothing_need_be_set():
    settings = Settings.from_environment({})
    assert settings.models.name == "models" and settings.workers == 1 and settings.timeout == 30
    assert (settings.rate_limit, settings.api_keys_file, settings.cors_origins) == (None, None, ())
    assert Settings.from_environment({"GANYMEDE_WORKERS": "", "GANYMEDE_RATE_LIMIT": ""}) == settings


def test_every_setting_is_read_and_documented():
    environment = {
        "GANYMEDE_MODELS": "/srv/models",
        "GANYMEDE_WORKERS": "3",
        "GANYMEDE_TIMEOUT": "2.5",
        "GANYMEDE_READ_TIMEOUT": "4",
        "GANYMEDE_KEEP_ALIVE": "620",
        "GANYMEDE_MAX_QUEUE": "64",
        "GANYMEDE_RATE_LIMIT": "0.5",
        "GANYMEDE_API_KEYS_FILE": "/run/keys",
        "GANYMEDE_CORS_ORIGINS": "https://a.example, http://localhost:8080",
        "GANYMEDE_HEARTBEAT": "60",
        "GANYMEDE_DRAIN": "0",
        "GANYMEDE_LOG_LEVEL": "WARNING",
    }
    origins = ("https://a.example", "http://localhost:8080")
    expected = (Path("/srv/models"), 3, 2.5, 4, 620, 64, 0.5, Path("/run/keys"), origins, 60, 0, "warning")
    assert tuple(dict(Settings.from_environment(environment)).values()) == expected
    assert environment.keys() == {f"GANYMEDE_{name.upper()}" for name in Settings.model_fields}
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("GANYMEDE_WORKERS", "0", "must be a whole number between 1 and 256"),
        ("GANYMEDE_WORKERS", "2.5", "must be a whole number between 1 and 256"),
        ("GANYMEDE_WORKERS", "٣", "must be a whole number between 1 and 256"),
        ("GANYMEDE_TIMEOUT", "nan", "must be a number between 0.1 and 600"),
        ("GANYMEDE_TIMEOUT", "soon", "must be a number between 0.1 and 600"),
        ("GANYMEDE_DRAIN", "-1", "must be a number between 0 and 600"),
        ("GANYMEDE_RATE_LIMIT", "0", "must be a number between 0.001 and 1000000"),
        ("GANYMEDE_LOG_LEVEL", "loud", "must be one of debug, info, warning, error"),
        ("GANYMEDE_CORS_ORIGINS", "example.org", "must be `*` or origins such as https://example.org"),
        ("GANYMEDE_CORS_ORIGINS", "https://a.example/", "must be `*` or origins such as https://example.org"),
    ],
)
def test_what_a_variable_cannot_be_is_told_with_what_it_can(name: str, value: str, message: str):
    with pytest.raises(ValueError, match=re.escape(f"`{name}` (={value}) {message}")):
        Settings.from_environment({name: value})
