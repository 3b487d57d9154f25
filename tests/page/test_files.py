"""Proves what the page is made of, without a browser: small, from one host, without inline code, under
a strict policy, and cached by content."""

import pathlib
import re

PAGE = pathlib.Path(__file__).resolve().parents[2] / "api/page"
BYTES_MAX = 150 * 1024
ON_DEMAND = {"admin.js", "mask.js", "plot.js", "rescan.js"}  # what only some come to, when they do


def sources():
    return {path.name: path.read_text() for path in sorted(PAGE.iterdir())}


def opened_with(files):
    """What comes when the page is opened: all that index.html names, and what that imports in turn,
    but for modules that are imported in the midst of things."""
    found, waiting = set(), ["index.html"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        way = r"[\"(]/page/([\w.]+)" if name == "index.html" else r"(?:^|\n)import [^\n]*'/page/([\w.]+)'|url\(/page/([\w.]+)"
        waiting += ["".join(each) for each in re.findall(way, files[name])]
    return found


def test_it_is_small_and_whole():
    files = sources()
    opened = opened_with(files)
    assert sum(len(files[name].encode()) for name in opened) < BYTES_MAX
    assert set(files) - opened == ON_DEMAND
    listed = (PAGE.parent / "CMakeLists.txt").read_text()
    for name, text in files.items():
        assert f"page/{name}" in listed, name
        for wanted in re.findall(r"['\"(]/page/([\w.]+)", text):
            assert wanted in files, (name, wanted)


def test_it_speaks_to_its_own_server_only():
    for name, text in sources().items():
        links = set(re.findall(r"https?://[^\s'\"`)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not links, (name, links)
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "javascript:"):
            assert way not in text, (name, way)


def test_it_has_no_inline_code():
    text = sources()["index.html"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


def test_every_file_comes_under_the_policy(serve):
    front = serve(ready=False)
    for name in ["", *(f"page/{name}" for name in sources())]:
        answer = front.get(f"/{name}")
        policy = answer.headers["Content-Security-Policy"]
        assert answer.status == 200 and "default-src 'none'" in policy and "unsafe" not in policy, name
        assert "script-src 'self'" in policy and "require-trusted-types-for 'script'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        again = front.get(f"/{name}", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status == 304 and again.body == b"" and again.headers["ETag"] == answer.headers["ETag"]
    kinds = {"page/page.css": "text/css", "page/main.js": "text/javascript", "page/icon.svg": "image/svg+xml", "": "text/html"}
    for name, kind in kinds.items():
        assert front.get(f"/{name}").headers["Content-Type"].startswith(kind)
    for name in ("page/none.js", "page/", "page", "page/../index.html", "page/%6dain.js"):
        assert front.get(f"/{name}").status in (400, 404), name
    assert front.post("/page/main.js", {}).status == 405
