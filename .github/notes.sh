#!/usr/bin/env bash
# Prints the section of deploy/docs/CHANGELOG.md that belongs to a version, v0.1.0
# say. It fails if there is none, or an empty one.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:?usage: notes.sh VERSION}
notes=$(awk -v heading="## $version" '
  /^## / { inside = ($0 == heading || index($0, heading " ") == 1); next }
  inside { print }
' deploy/docs/CHANGELOG.md)
if [ -z "${notes//[[:space:]]/}" ]; then
  echo "notes.sh: deploy/docs/CHANGELOG.md has no section $version" >&2
  exit 1
fi
printf '%s\n' "$notes"
