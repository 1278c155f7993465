#!/usr/bin/env bash
# Builds an image and pushes it to the registry: docker/publish.sh cpu|gpu [--no-push]
# The tag is the version label of its Dockerfile. `docker login` first; nothing here reads a token.
set -euo pipefail
cd "$(dirname "$0")/.."

device=${1:-}
case $device in
cpu | gpu) ;;
*)
    echo "usage: docker/publish.sh cpu|gpu [--no-push]" >&2
    exit 2
    ;;
esac
dockerfile=docker/Dockerfile.$device
version=$(sed -n 's/^LABEL org\.opencontainers\.image\.version=//p' "$dockerfile")
image=supervisely/video-labeling-by-tracking-$device:$version

docker build --file "$dockerfile" --tag "$image" .
[ "${2:-}" = --no-push ] || docker push "$image"
