"""deploy/compose.yaml is valid, fits the image, and mounts files that exist."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.api import server
from serving.api.settings import Settings
from tools import needs

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.mark.slow
@needs("podman", package="podman")  # podman-compose calls it
@pytest.mark.parametrize("profile", [(), ("--profile", "traces")], ids=["plain", "traces"])
def test_a_compose_tool_reads_it(profile: tuple[str, ...]):
    command = [sys.executable, "-m", "podman_compose", "-f", str(FILE), *profile, "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    services = {name for name, service in SERVICES.items() if profile or "profiles" not in service}
    assert yaml.safe_load(done.stdout)["services"].keys() >= services


@pytest.mark.slow
@needs("docker-compose", package="docker-compose")
@pytest.mark.parametrize("profile", [(), ("--profile", "traces")], ids=["plain", "traces"])
def test_docker_compose_finds_nothing_wrong(profile: tuple[str, ...]):
    """docker-compose rejects unknown keys of a service; podman-compose does not."""

    def run(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        command = ["docker-compose", *words]
        return subprocess.run(command, cwd=FILE.parent, input=text, capture_output=True, text=True, check=False)

    text = FILE.read_text()
    if run("version", "--short").stdout.startswith("1."):  # Debian's version does not know `name` yet
        text = re.sub(r"^name: .*\n", "", text, count=1, flags=re.M)
    done = run("-f", "-", *profile, "config", "-q", text=text)
    assert done.returncode == 0, done.stderr
    broken = run("-f", "-", *profile, "config", "-q", text=text.replace("cap_drop:", "cap_dropped:"))
    assert broken.returncode != 0 and "cap_dropped" in broken.stderr


def test_the_services_are_the_documented_ones():
    assert SERVICES.keys() == {"ganymede", "prometheus", "grafana", "otel-collector"}
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["otel-collector"]


def test_the_service_runs_as_the_image_should():
    service = SERVICES["ganymede"]
    (user,) = re.findall(r"^USER (\S+)$", (ROOT / "Containerfile").read_text(), re.M)
    assert service["user"] == user and service["read_only"] is True and service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert service["cpus"] and service["mem_limit"]


def test_every_port_is_bound_to_127_0_0_1():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3 and all(port.startswith("127.0.0.1:") for port in ports)


def test_the_service_has_time_to_drain():
    service = SERVICES["ganymede"]
    own = {name: value for name, value in service["environment"].items() if name.startswith("GANYMEDE_")}
    settings = Settings.from_environment(own)
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace >= settings.drain + settings.timeout + server.GRACE_SECONDS


def test_mounted_files_exist():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (FILE.parent / source).exists(), source


def test_internal_addresses_name_services():
    deploy = ROOT / "deploy"
    files = ["prometheus/prometheus.yml", "grafana/provisioning/datasources/prometheus.yaml", "compose.yaml"]
    addresses = {
        found for file in files for found in re.findall(r"(?:http://|\[\")([a-z-]+):(\d+)", (deploy / file).read_text())
    }
    assert addresses == {("ganymede", "3000"), ("prometheus", "9090"), ("otel-collector", "4318")}
    assert {name for name, _ in addresses} <= SERVICES.keys()
    collector = yaml.safe_load((deploy / "otel-collector.yaml").read_text())
    assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"] == "0.0.0.0:4318"


def test_collector_pipelines_use_configured_components():
    collector = yaml.safe_load((ROOT / "deploy" / "otel-collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= collector[kind].keys()
    assert collector["service"]["pipelines"]["traces"]["processors"][0] == "memory_limiter", (
        "its documentation recommends it first"
    )


def test_grafana_finds_the_dashboards():
    grafana = SERVICES["grafana"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in grafana["volumes"])
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/ganymede.yaml").read_text())[
        "providers"
    ]
    assert mounts[provider["options"]["path"]] == "./grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "./grafana/provisioning"
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "deploy" / mounts[str(home.parent)] / home.name).exists()
