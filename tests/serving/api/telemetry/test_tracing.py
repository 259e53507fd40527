"""Traces: sent to a collector where one is named, made nowhere else."""

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from server import ROOT, Server, free_port, serve

Serve = Callable[..., AbstractContextManager[Server]]


class Collector(HTTPServer):
    """Takes traces as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Span] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    yield collector
    collector.shutdown()
    thread.join()
    collector.server_close()


def attributes(span: Span) -> dict[str, str | int]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_a_request_is_a_span_with_steps_in_the_senders_trace(serve: Serve, collector: Collector):
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace}-{parent}-01", "X-Request-Id": "traced"}
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    with serve(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as server:
        assert httpx2.post(f"{server.url}/v1/sample", json={"n": 9}, headers=headers).status_code == 200
        assert server.stop() == 0, "what was not sent yet is sent at the end"
    (span,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("POST /v1/sample", trace, parent)
    found = attributes(span)
    assert found["http.route"] == "/v1/sample" and found["http.response.status_code"] == 200
    assert (found["ganymede.request_id"], found["ganymede.images"]) == ("traced", 9)
    steps = {step.name: step for step in collector.spans if step.parent_span_id == span.span_id}
    assert steps.keys() == {"queue", "compute", "encode"}
    for step in steps.values():
        assert span.start_time_unix_nano <= step.start_time_unix_nano
        assert step.end_time_unix_nano <= span.end_time_unix_nano


def test_a_collector_that_is_not_there_harms_no_request(serve: Serve):
    with serve(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}", OTEL_EXPORTER_OTLP_TIMEOUT="1") as server:
        for _ in range(10):
            assert httpx2.post(f"{server.url}/v1/sample", json={}).status_code == 200


def test_without_a_collector_the_exporter_is_not_even_loaded():
    code = "import serving.api.app, sys; print([m for m in sys.modules if 'exporter' in m])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_without_the_exporter_a_start_says_what_to_install(repository_folder: Path, tmp_path: Path):
    blocked = tmp_path / "sitecustomize.py"
    blocked.write_text("import sys\nsys.modules['opentelemetry.exporter.otlp.proto.http.trace_exporter'] = None\n")
    command = serve(repository_folder, 0)
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "install opentelemetry-exporter-otlp-proto-http" in done.stderr.splitlines()[-1]
