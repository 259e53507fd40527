"""Keys as the file has them now: hashed, several, and gone when they are deleted."""

import hashlib
import os
from pathlib import Path

import pytest

from serving.api.access.keys import Keys, KeysError


def line(key: str, name: str = "") -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()}  {name}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text("# who may ask\n\n" + line("one", "alice") + line("two").upper())
    return path


def test_each_key_of_the_file_has_its_name(file: Path):
    keys = Keys(file)
    assert keys.name("Bearer one") == "alice"
    assert keys.name("bearer  two") == hashlib.sha256(b"two").hexdigest()[:8]


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer three", "Basic one", "one", "Bearer one two", "Bearer \xe9"],
)
def test_anything_else_opens_nothing(file: Path, authorization: str | None):
    assert Keys(file).name(authorization) is None


def test_the_hash_of_a_key_is_no_key(file: Path):
    assert Keys(file).name(f"Bearer {hashlib.sha256(b'one').hexdigest()}") is None


def test_a_key_is_revoked_and_another_added_by_editing_the_file(file: Path):
    keys = Keys(file)
    file.write_text(line("two", "bob") + line("three", "carol"))
    assert (keys.name("Bearer one"), keys.name("Bearer two"), keys.name("Bearer three")) == (None, "bob", "carol")


def test_a_file_that_is_put_in_its_place_is_read(file: Path):
    keys = Keys(file)
    stat = file.stat()
    other = file.with_suffix(".new")
    other.write_text(file.read_text().replace(line("one", "alice"), line("won", "alice")))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    assert (keys.name("Bearer one"), keys.name("Bearer won")) == (None, "alice")


@pytest.mark.parametrize("spoil", [lambda file: file.write_text("no hash\n"), lambda file: file.unlink()])
def test_an_unreadable_key_file_lets_nobody_in_until_repaired(file: Path, spoil):
    keys, good = Keys(file), file.read_text()
    spoil(file)
    assert keys.name("Bearer one") is None
    file.write_text(good)
    assert keys.name("Bearer one") == "alice"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("", "has no API key"),
        ("# nobody\n", "has no API key"),
        (line("one") + "secret\n", "line 2 must be 64 hexadecimal digits"),
        ("ab" * 31 + " alice\n", "line 1 must be 64"),
    ],
)
def test_a_server_does_not_start_on_a_file_that_is_wrong(tmp_path: Path, text: str | None, message: str):
    path = tmp_path / "keys.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(KeysError, match=message) as caught:
        Keys(path)
    assert "secret" not in str(caught.value), "what stands there may be a key"
