"""Look up every package of a server in an advisory service, and report packages that could not be looked up.

    python requirements/audit.py [options of pip-audit]

Exit code 0: all packages were looked up and have no known advisory. 1: there are advisories. 2: some packages were not
looked up. pip-audit itself exits with 0 in that case.
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
        reason = (done.stderr.strip() or "pip-audit printed no error").splitlines()[-1]
        print(f"No advisory service answered, so nothing was audited: {reason}")
        return 2
    found = [(package, advisory) for package in packages for advisory in package.get("vulns", ())]
    for package, advisory in found:
        fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
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
