#!/usr/bin/env python3
"""The few rules of the house that a machine can check: who may include whom, where third-party
headers live, banned calls, allocation in its homes only, formatting, invisible characters, dead
files, the source map, links between pages. Prints one line a finding and `N passed, N failed`; a
rule is one check."""

import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("config", "kernels", "runtime", "api", "server")
PURE_FOR_API = {"runtime/params.h", "runtime/text/prompt.h", "runtime/text/bpe.h",
                "runtime/image/png_meta.h", "runtime/image/png_read.h",
                "runtime/image/recipe_build.h", "runtime/image/png_text.h",
                "runtime/image/picture_header.h", "runtime/image/picture_kind.h",
                "runtime/image/picture_texts.h"}
PURE_FOR_SERVER = {"runtime/params.h", "runtime/gpu/plan_mem.h", "runtime/image/png_meta.h",
                   "runtime/image/infotext.h", "runtime/image/recipe_build.h",
                   "runtime/image/picture_header.h", "runtime/image/picture_kind.h",
                   "runtime/image/picture_texts.h", "runtime/image/zip_write.h"}

HOMES = {
    r"cuda.*\.h": r"(kernels/cuda|runtime/gpu)/",
    r"nvtx3/.*": r"kernels/cuda/ranges\.c",
    r"cblas\.h": r"kernels/cpu/",
    r"gnutls/.*": r"runtime/base/id\.c|server/webhook\.c",
    r"microhttpd\.h": r"server/http(_guard|_internal|_reply)?\.[ch]",
    r"jansson\.h": r"api/",
    r"png\.h": r"runtime/image/png_(read|write)\.c",
    r"(jpeglib|jerror)\.h": r"runtime/image/jpeg_(read|write)\.c",
    r"webp/.*": r"runtime/image/webp_(read|write)\.c",
    r"sqlite3\.h": r"server/store_sqlite\w*\.[ch]",
    r"libpq-fe\.h": r"server/store_pg\.c",
    r"curl/curl\.h": r"server/remote\.c|server/cmd_webhook\.c",
    r"wslay/wslay\.h": r"server/ws\.c",
    r"utf8proc\.h": r"runtime/text/unicode\.c",
    r"ini\.h": r"config/",
    r"libdeflate\.h": r"runtime/(image/(png_\w+|zip_write|deflate)\.c|text/\w+\.c)",
}
BANNED = re.compile(
    r"\b(sprintf|vsprintf|strcpy|strcat|strncpy|strncat|gets|atoi|atol|atof|sscanf|strtok|localtime|"
    r"gmtime|asctime|ctime|rand|srand|system|popen|tmpnam|mktemp|access|signal|alloca|setjmp|"
    r"longjmp)\s*\(")
ALLOCATION = re.compile(r"\b(malloc|calloc|realloc|free|strdup|strndup)\s*\(")
ALLOCATION_HOMES = {"runtime/base/arena.c"}
JUMP_HOMES = {"runtime/image/png_read.c", "runtime/image/png_write.c",
              "runtime/image/jpeg_read.c", "runtime/image/jpeg_write.c"}
LINK = re.compile(r"\]\(([^)\s]+)\)")
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def sources():
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in (".c", ".h"):
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def code_only(text):
    """Comments and string literals blanked, line numbers kept."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def may_include(name, header):
    room = header.split("/")[0]
    if room not in ROOMS or header.startswith("runtime/base/"):
        return True
    if name.startswith("runtime/base/"):
        return False
    own = name.split("/")[0]
    if own == "config":
        return room == "config" or header == "runtime/params.h"
    if own == "kernels":
        return room == "kernels"
    if own == "runtime":
        return room in ("runtime", "kernels", "config")
    if own == "api":
        return room in ("api", "config") or header.startswith("runtime/ipc/") or \
            header in PURE_FOR_API
    if re.match(r"server/(worker_|script|cmd_|main|names|remote|progress_bar|console)", name):
        return True
    return room in ("server", "api", "config") or header.startswith("runtime/ipc/") or \
        header in PURE_FOR_SERVER


class Skipped(Exception):
    """This machine cannot check it."""


def check_includes():
    for name, text in sources():
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if match and not may_include(name, match[1]):
                yield f"{name}:{number}: may not include {match[1]}"


def check_homes():
    for name, text in sources():
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            for header, home in HOMES.items():
                if match and re.fullmatch(header, match[1]) and not re.match(home, name):
                    yield f"{name}:{number}: <{match[1]}> does not live here"


def check_calls():
    for name, text in sources():
        for number, line in enumerate(code_only(text).splitlines(), 1):
            match = BANNED.search(line)
            if match and not (match[1] in ("setjmp", "longjmp") and name in JUMP_HOMES):
                yield f"{name}:{number}: {match[1]} is banned"


def check_allocation():
    for name, text in sources():
        if name in ALLOCATION_HOMES:
            continue
        for number, line in enumerate(code_only(text).splitlines(), 1):
            match = ALLOCATION.search(line)
            if match:
                yield f"{name}:{number}: {match[1]} outside runtime/base/arena.c"


def check_invisible():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.suffix in (".c", ".h", ".py", ".sh", ".md", ".cmake", ".txt", ".json", ".def", ".conf") \
                and path.exists() and not name.startswith("tests/golden/") \
                and not name.startswith("tests/fuzz/corpus/"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if INVISIBLE.search(line):
                    yield f"{name}:{number}: invisible character"


def check_dead_files():
    listed = "".join(path.read_text() for pattern in ("CMakeLists.txt", "*.cmake")
                     for room in ROOMS for path in (ROOT / room).rglob(pattern))
    for name, _ in sources():
        if name.endswith(".c") and pathlib.Path(name).name not in listed:
            yield f"{name}: not built by any CMakeLists.txt"


def find_formatter():
    """clang-format 14 (Debian 12's): other versions break lines elsewhere, so none but this one judges."""
    for name in ("clang-format-14", "clang-format"):
        if shutil.which(name) and " 14." in subprocess.run([name, "--version"], capture_output=True, text=True,
                                                           check=True).stdout:
            return name
    return None


def check_format():
    formatter = find_formatter()
    if not formatter:
        raise Skipped("clang-format 14 is not here")
    names = [name for name, _ in sources()]
    done = subprocess.run([formatter, "--dry-run", "--Werror", "-style=file", *names], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    for line in done.stderr.splitlines():
        if "error:" in line:
            yield line


def check_source_map():
    done = subprocess.run([sys.executable, "tests/tools/source_map.py", "--check"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield "docs/source-map.md is not in step; run tests/tools/source_map.py --write"


def anchors(page):
    """What a page's headings are called in links."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", head).lower() for head in heads)
    return {re.sub(r"[^\w\- ]", "", head).strip().replace(" ", "-") for head in plain}


def check_links():
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            for link in LINK.findall(line):
                if re.match(r"[a-z]+:", link):
                    continue
                file, _, anchor = link.partition("#")
                there = (page.parent / file).resolve() if file else page
                where = f"{page.relative_to(ROOT)}:{number}"
                if not there.exists():
                    yield f"{where}: {link} is not there"
                elif anchor and there.suffix == ".md" and anchor not in anchors(there):
                    yield f"{where}: {link} has no such heading"


def main():
    checks = (check_includes, check_homes, check_calls, check_allocation, check_invisible,
              check_dead_files, check_format, check_source_map, check_links)
    failed = skipped = 0
    for check in checks:
        try:
            findings = list(check())
        except Skipped as why:
            print(f"skip: {check.__name__}: {why}")
            skipped += 1
            continue
        failed += bool(findings)
        print(("FAIL " if findings else "ok ") + check.__name__)
        for finding in findings[:40]:
            print("   ", finding)
        if len(findings) > 40:
            print(f"    and {len(findings) - 40} more")
    print(f"{len(checks) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


sys.exit(main())
