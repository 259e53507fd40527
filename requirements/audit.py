"""Asks a service of advisories about everything that a server installs, and says so where none answers.

    python requirements/audit.py [options of pip-audit]

Exit code 0: all of it was looked up, and nothing is known. 1: there are advisories. 2: not all of it was looked up.
pip-audit itself calls what it could not look up a success.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("serve.txt")
OPTIONS = ["--disable-pip", "--progress-spinner=off", "--desc=off", "--format=json"]


def main(options: list[str]) -> int:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), *OPTIONS, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        print(f"No advisory service answered, so nothing was audited: {reason}")
        return 2
    found = [(package, advisory) for package in packages for advisory in package.get("vulns", ())]
    for package, advisory in found:
        mended = ", ".join(advisory["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {advisory['id']}, mended in {mended}")
    missed = [package["name"] for package in packages if "skip_reason" in package]
    if len(missed) == len(packages):
        print(f"No advisory service answered, so nothing was audited: {packages[0]['skip_reason']}")
        return 2
    if missed:
        print(f"{len(missed)} of {len(packages)} packages could not be audited: {', '.join(missed)}")
    if not found:
        print(f"{len(packages) - len(missed)} packages of {LOCK.name} were audited; no advisory is known.")
    return 1 if found else 2 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
