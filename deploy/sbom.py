"""Print a CycloneDX SBOM: the packages of an environment, and the models with the sha256 of their files.

    python deploy/sbom.py PYTHON MODELS

PYTHON is the interpreter of the environment, MODELS is the model repository. Needs the package cyclonedx-bom.
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
    """Return the component of a model, with its files as nested components."""
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
