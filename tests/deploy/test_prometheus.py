"""Prometheus with the configuration of deploy/: scrapes, dashboard queries and alerts against a running service.

Needs `prometheus` and `promtool` (apt-get install prometheus); skipped without them.
"""

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from server import Server, free_port, serving
from serving.api.telemetry.metrics import Metrics
from tools import needs

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "ganymede.json").read_text())
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
TYPES = dict(re.findall(r"^# TYPE (\w+) (\w+)$", Metrics().render([]).decode(), re.M))  # of every metric
SCRAPE_SECONDS = 1
RATE_SECONDS = 5  # value of Grafana's $__rate_interval here: a few scrapes


pytestmark = [pytest.mark.slow, needs("prometheus", "promtool", package="prometheus")]


@pytest.fixture(scope="module")
def service(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(repository_folder, tmp_path_factory.mktemp("service") / "log.txt") as server:
        yield server


@pytest.fixture(scope="module")
def prometheus(service: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """Client of a Prometheus that has scraped the service for some seconds under requests of all kinds."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(DEPLOY / "prometheus", folder, dirs_exist_ok=True)
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{service.port}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            wait_for_target(client, folder / "log.txt")
            ends = time.monotonic() + 2 * RATE_SECONDS
            while time.monotonic() < ends:
                ask(service)
                time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def wait_for_target(client: httpx2.Client, log: Path) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        try:
            targets = client.get("/api/v1/targets").json()["data"]["activeTargets"]
            if [target["health"] for target in targets] == ["up"]:
                return
        except (httpx2.TransportError, ValueError):  # not started yet, or no JSON yet
            pass
        time.sleep(0.1)
    raise RuntimeError(f"Prometheus scraped nothing within 30 s. Its log:\n{log.read_text()}")


def ask(service: Server) -> None:
    """Request images of every model, one image by its URL, and one invalid request."""
    for model in ("tiny-dcgan", "tiny-cgan", "tiny-style"):
        httpx2.post(f"{service.url}/v1/sample", json={"model": model, "n": 3}).raise_for_status()
    httpx2.get(f"{service.url}/v1/images/tiny-dcgan/7/0.png").raise_for_status()
    assert httpx2.post(f"{service.url}/v1/sample", json={"n": 0}).status_code == 422


def query(client: httpx2.Client, expression: str) -> list[dict[str, Any]]:
    reply = client.get("/api/v1/query", params={"query": expression}).json()
    assert reply["status"] == "success", reply
    return reply["data"]["result"]


def test_promtool_finds_nothing_wrong():
    command = ["promtool", "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"SUCCESS: {len(ALERTS)} rules found" in done.stdout


@pytest.mark.parametrize("expression", QUERIES)
def test_every_query_of_the_dashboard_returns_data(prometheus: httpx2.Client, expression: str):
    series = query(prometheus, expression.replace("$__rate_interval", f"{RATE_SECONDS}s"))
    values = [
        value for one in series if not math.isnan(value := float(one["value"][1]))
    ]  # NaN: a route without requests
    assert values, series
    if "rate(" in expression:
        assert max(values) > 0


def test_the_dashboard_shows_every_metric(prometheus: httpx2.Client):
    expressions = " ".join(str(parameter.values[0]) for parameter in QUERIES)
    shown = {base(name) for name in re.findall(r"(?:ganymede|process)_\w+", expressions)}
    assert shown == TYPES.keys(), "the dashboard must show every metric and no others"
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {"prometheus"}
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["uid"] == "prometheus"


def base(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name) if name not in TYPES else name


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_an_alert_uses_known_metrics_and_does_not_fire(prometheus: httpx2.Client, rule: dict[str, Any]):
    names = set(re.findall(r"ganymede_\w+", rule["expr"]))
    assert {base(name) for name in names} <= TYPES.keys()
    for name in names:
        assert query(prometheus, name), f"{name} has no series"
    assert query(prometheus, rule["expr"]) == []


def test_an_alert_fires_when_the_service_is_down(prometheus: httpx2.Client, service: Server):
    """This must be the last test of the file, because it stops the service."""
    (down,) = [rule for rule in ALERTS if rule["alert"] == "GanymedeDown"]
    service.stop()
    ends = time.monotonic() + 20
    while not query(prometheus, down["expr"]):
        assert time.monotonic() < ends
        time.sleep(0.2)
