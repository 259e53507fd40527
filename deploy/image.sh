#!/bin/sh
# Build a bento of this checkout and its container image. The SBOM and the tag of the bento are written to build/.
#
#     deploy/image.sh [serve|cuda|bulk]
#
# ENGINE: podman (default if installed) or docker. IMAGE: name without a tag. IMAGE_OPTIONS: further options of `build`,
# for example --pull=never.
set -eu
cd "$(dirname "$0")/.."
lock=${1:-serve}
IMAGE=${IMAGE:-ganymede}
command -v podman >/dev/null && default=podman || default=docker
ENGINE=${ENGINE:-$default}

export BENTOML_HOME="$PWD/build/bentoml" BENTOML_DO_NOT_TRACK=True
rm -rf build/bentoml
mkdir -p build/bentoml
.venv/bin/bentoml build --output tag >build/bento.txt
bento=$BENTOML_HOME/bentos/$(sed -n 's,^__tag__:\(.*\):\(.*\),\1/\2,p' build/bento.txt)

version=$(.venv/bin/python -c 'import serving; print(serving.__version__)')
git() { command git "$@" 2>/dev/null || true; } # the archive of a release has no git history
case $lock in serve) tags="$version latest" ;; *) tags="$version-$lock $lock" ;; esac
set --
for tag in $tags; do set -- "$@" --tag "$IMAGE:$tag"; done
# The OCI image format has no health check, so podman must use Docker's.
case $ENGINE in *podman) set -- "$@" --format docker ;; esac
# shellcheck disable=SC2086 # IMAGE_OPTIONS may hold several options
"$ENGINE" build ${IMAGE_OPTIONS:-} "$@" --file "$bento/src/Containerfile" --build-arg LOCK="$lock" \
    --build-arg VERSION="$version" --build-arg REVISION="$(git rev-parse HEAD)" \
    --build-arg CREATED="$(git log -1 --format=%cI)" "$bento"

container=$("$ENGINE" create --no-healthcheck "$IMAGE:${tags#* }")
"$ENGINE" cp "$container:/app/sbom.cdx.json" build/sbom.cdx.json
"$ENGINE" rm "$container" >/dev/null
echo "$IMAGE:${tags#* }: $("$ENGINE" image inspect --format '{{.Size}}' "$IMAGE:${tags#* }") bytes, SBOM in build/sbom.cdx.json"
