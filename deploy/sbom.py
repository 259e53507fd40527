"""Prints what an image holds as CycloneDX: the packages of an environment, and the models with their files' sha256.

    python deploy/sbom.py PYTHON MODELS

PYTHON is the environment's interpreter, MODELS the model repository beside it. Needs cyclonedx-bom.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def main(python: str, models: str) -> None:
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--spec-version", "1.6", "--output-reproducible"]
    document = json.loads(subprocess.run([*command, python], capture_output=True, check=True).stdout)
    document["metadata"]["component"] = {"type": "application", "name": "ganymede", "bom-ref": "ganymede"}
    found = [model(path) for path in sorted(Path(models).glob("*/model.json"))]
    document["components"] += found
    packages = [component["bom-ref"] for component in document["components"]]
    document["dependencies"] += [{"ref": "ganymede", "dependsOn": packages}, *({"ref": m["bom-ref"]} for m in found)]
    json.dump(document, sys.stdout, indent=1)


def model(path: Path) -> dict[str, Any]:
    """A model as a component whose parts are its files."""
    document = json.loads(path.read_text())
    files = [
        {
            "type": "file",
            "bom-ref": f"model:{document['id']}/{name}",
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": file["sha256"]}],
        }
        for name, file in document["files"].items()
    ]
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{document['id']}",
        "name": document["id"],
        "description": document["name"],
        "licenses": [{"license": {"id": document["licence"]}}],
        "components": files,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
