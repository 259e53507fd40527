"""Programs that some tests drive: without one its tests are left out, but where TOOLS=all, as in CI, they fail."""

import os
import shutil

import pytest

ALL = os.environ.get("TOOLS") == "all"


def reason(*programs: str, package: str) -> str | None:
    """Why tests that drive all of `programs`, of a Debian package, are to be left out; None where they run."""
    missing = [program for program in programs if not shutil.which(program)]
    if ALL or not missing:
        return None
    return f"there is no {missing[0]}: apt-get install {package}"


def needs(*programs: str, package: str) -> pytest.MarkDecorator:
    """The same as a mark of tests."""
    why = reason(*programs, package=package)
    return pytest.mark.skipif(why is not None, reason=why or "")
