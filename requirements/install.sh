#!/bin/sh
# Installs what requirements/NAME.txt locks into .venv; does nothing when that is what .venv was last given:
#
#     requirements/install.sh NAME
set -eu
cd "$(dirname "$0")/.."
lock=requirements/$1.txt
installed=.venv/installed.txt # a copy of the lock that was installed last

# dev.txt pins all that the other locks pin, at the same versions, so where it is installed they ask for nothing more.
if [ -x .venv/bin/python ] && { cmp -s "$lock" "$installed" || cmp -s requirements/dev.txt "$installed"; }; then
    exit 0
fi

# The uv on PATH if it runs; else a private one, which leaves the system's packages alone (and so works where they are
# "externally managed"). `pip --target` needs pip, `-m venv` needs ensurepip: distributions leave out the one or the other.
uv=uv
if ! uv --version >/dev/null 2>&1; then
    uv=.uv/bin/uv
    if ! $uv --version >/dev/null 2>&1; then
        echo "Installing uv into .uv/"
        rm -rf .uv
        python3 -m pip install --quiet --target .uv uv ||
            { rm -rf .uv && python3 -m venv .uv && .uv/bin/python -m pip install --quiet uv; } ||
            { echo "make: uv is missing and pip could not install it; see https://docs.astral.sh/uv" >&2 && exit 1; }
    fi
fi

if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    rm -rf .venv
    $uv venv --quiet --python '>=3.11,<3.14' .venv
fi

echo "Installing $lock into .venv/"
rm -f "$installed"
# Compiled now, or each start of the server would compile afresh where PYTHONDONTWRITEBYTECODE is set.
$uv pip install --quiet --python .venv/bin/python --require-hashes --compile-bytecode --requirement "$lock"
cp "$lock" "$installed"
