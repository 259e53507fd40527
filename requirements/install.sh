#!/bin/sh
# Install the packages of requirements/NAME.txt into .venv. Do nothing if .venv has them already:
#
#     requirements/install.sh NAME
set -eu
cd "$(dirname "$0")/.."
lock=requirements/$1.txt
installed=.venv/installed.txt # copy of the lock file that was installed last

# dev.txt holds all packages of the other lock files at the same versions. If it is installed, nothing is missing.
if [ -x .venv/bin/python ] && { cmp -s "$lock" "$installed" || cmp -s requirements/dev.txt "$installed"; }; then
    exit 0
fi

# Use the uv on PATH if it runs. Otherwise install a private one into .uv, which does not change the packages of the
# system (and works if they are "externally managed"). `pip --target` needs pip and `-m venv` needs ensurepip; a
# distribution may lack one of the two.
uv=uv
if ! uv --version >/dev/null 2>&1; then
    uv=.uv/bin/uv
    if ! $uv --version >/dev/null 2>&1; then
        echo "Installing uv into .uv/"
        rm -rf .uv
        python3 -m pip install --quiet --target .uv uv ||
            { rm -rf .uv && python3 -m venv .uv && .uv/bin/python -m pip install --quiet uv; } ||
            { echo "make: uv is missing and pip could not install it; install it as in https://docs.astral.sh/uv" >&2 && exit 1; }
    fi
fi

if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    rm -rf .venv
    $uv venv --quiet --python '>=3.11,<3.14' .venv
fi

echo "Installing $lock into .venv/"
rm -f "$installed"
# Compile to bytecode now. Otherwise every server start would compile again if PYTHONDONTWRITEBYTECODE is set.
$uv pip install --quiet --python .venv/bin/python --require-hashes --compile-bytecode --requirement "$lock"
cp "$lock" "$installed"
