#!/usr/bin/env bash
# C12: curl, jq, and what pngcheck and exiftool say of a picture where they are installed.
#     tests/clients/raw.sh BASE FOLDER
set -euo pipefail
base=$1 folder=$2 said=curl
curl -fsS "$base/v1/jobs" -H 'Content-Type: application/json' -H 'Accept: image/png' -o "$folder/a.png" \
    -d '{"prompt": "red cat, beach", "width": 64, "height": 64, "steps": 4, "seed": 5}'
curl -fsS "$base/sdapi/v1/txt2img" -d '{"prompt": "red cat", "steps": 4, "width": 64, "height": 64}' >"$folder/b.json"
if command -v jq >/dev/null; then
    said="$said, jq"
    jq -r '.images[0]' "$folder/b.json" | base64 -d >"$folder/b.png"
    [ "$(jq -r '.info | fromjson | .width' "$folder/b.json")" = 64 ]
    [ "$(curl -fsS "$base/v1/models" | jq -r '.data[0].id')" = demo ]
fi
if command -v pngcheck >/dev/null; then
    said="$said, pngcheck"
    pngcheck -v "$folder/a.png" | grep -q 'No errors detected'
fi
if command -v exiftool >/dev/null; then
    said="$said, exiftool"
    exiftool -s3 -Parameters "$folder/a.png" | grep -q 'Seed: 5'
fi
echo "$said"
