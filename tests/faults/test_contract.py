"""Schemathesis over the OpenAPI document: no 5xx, no status that is not in it, no reply that breaks its schema.

FAULTS=full python -m pytest tests/faults/test_contract.py    over 10,000 cases, of the tiny and the published models
"""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server import ROOT, serving

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
]
SHORT = {"--max-examples": "25", "--phases": "examples,fuzzing", "--generation-database": "none"}
FULL = {"--max-examples": "700", "--phases": "examples,coverage,fuzzing", "--generation-database": "none"}
FULL_CASES = 10_000

pytestmark = pytest.mark.slow


def aimed(ids: list[str]) -> dict[str, Any]:
    """The committed document with what only a deployment knows: its models, and the formats that `Accept` asks for.

    Any other text is still tried, as the document allows it.
    """
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    known, text = {"enum": ids}, {"type": "string"}
    for schema in document["components"]["schemas"].values():
        if "scale" in schema["properties"]:  # a body
            schema["properties"]["model"]["anyOf"] = [known, text, {"type": "null"}]
    for operation in [operation for item in document["paths"].values() for operation in item.values()]:
        for parameter in operation["parameters"]:
            if parameter.get("in") == "path" and parameter["name"] in ("model", "id"):
                parameter["schema"] = {"anyOf": [known, text]}
        if "requestBody" in operation:
            formats = {"enum": [*operation["responses"]["200"]["content"], "image/*, */*;q=0.1"]}
            accept = {"name": "Accept", "in": "header", "required": False, "schema": {"anyOf": [formats, text]}}
            operation["parameters"].append(accept)
    return document


def answered(url: str) -> Counter[str]:
    """Replies by status, as the server counts them."""
    found = Counter()
    for line in httpx2.get(f"{url}/metrics").text.splitlines():
        if match := re.fullmatch(r'ganymede_requests_total\{.*status="(\d+)"\} (\d+)(?:\.0)?', line):
            found[match[1]] += int(match[2])
    return found


@pytest.mark.parametrize("models", ["tiny", "published"])
def test_no_case_breaks_the_contract(
    models: str, repository_folder: Path, tmp_path: Path, full: bool, tell: Callable[[str], None]
):
    if models == "published" and not full:
        pytest.skip("takes minutes; FAULTS=full")
    folder = repository_folder if models == "tiny" else ROOT / "models"
    with serving(folder, tmp_path / "log.txt", env={"GANYMEDE_DRAIN": "0"}) as server:
        ids = [model["id"] for model in httpx2.get(f"{server.url}/v1/models").json()["models"]]
        document, report = tmp_path / "openapi.json", tmp_path / "report.json"
        document.write_text(json.dumps(aimed(ids)))
        options = FULL if full else SHORT
        tool = [str(Path(sys.executable).with_name("schemathesis")), "run", str(document), "--url", server.url]
        tool += ["--checks", ",".join(CHECKS), "--continue-on-failure", "--warnings", "off", "--no-color"]
        tool += ["--report", "json", "--report-json-path", str(report)]
        tool += [word for option in options.items() for word in option]
        began = time.monotonic()
        done = subprocess.run(tool, cwd=tmp_path, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        assert done.returncode == 0, done.stdout + done.stderr
        counts, statuses = json.loads(report.read_text())["test_cases"], answered(server.url)
        tell(f"\n    {models} models: {counts['generated']} cases in {seconds:.0f} s, {dict(sorted(statuses.items()))}")
        assert counts["generated"] >= (FULL_CASES if full else 300)
        assert not [status for status in statuses if status >= "500" and status not in ("503", "504")], statuses
        assert "Traceback" not in server.log.read_text()
