"""systemd unit: it is valid, its exposure is low, and its stop timeout covers the drain."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving.__main__ import _parser
from serving.api import server
from serving.api.settings import Settings
from tools import needs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "ganymede@.service"
needs_systemd = needs("systemd-analyze", package="systemd")


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.M)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Unit file with the paths of this checkout, because /opt/ganymede may not exist."""
    text = (
        UNIT.read_text().replace("/opt/ganymede/.venv/bin/python", sys.executable).replace("/opt/ganymede", str(ROOT))
    )
    (tmp_path / UNIT.name).write_text(text)
    return tmp_path / UNIT.name


@needs_systemd
def test_the_unit_is_valid(installed: Path):
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(installed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "ganymede" in line]
    assert done.returncode == 0 and ours == [], done.stderr


@needs_systemd
def test_systemd_reports_a_mistake(installed: Path):
    """Otherwise the test above could not fail."""
    installed.write_text(installed.read_text().replace("TimeoutStopSec=45", "TimeoutStopSec=soon"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(installed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"{UNIT.name}:" in done.stderr and "Failed to parse time value" in done.stderr


@needs_systemd
def test_the_exposure_is_low(installed: Path):
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(installed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_the_stop_timeout_covers_the_drain():
    settings = Settings.from_environment({})
    assert int(values("TimeoutStopSec")[0]) >= settings.drain + settings.timeout + server.GRACE_SECONDS


def test_a_stop_signals_only_the_supervisor():
    """Workers that get SIGTERM directly end without a drain."""
    assert values("KillMode") == ["mixed"]


def test_the_command_is_valid():
    (command,) = values("ExecStart")
    options = _parser().parse_args(command.replace("%i", "3000").split()[3:])
    assert (options.host, options.port) == ("127.0.0.1", 3000)
