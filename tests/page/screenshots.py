#!/usr/bin/env python3
"""Paints a few pictures with the demo model and takes the screenshots of docs/images.

    tests/page/screenshots.py PATH-OF-latentd
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "api")]
from browser import Browser  # noqa: E402
from front import Front  # noqa: E402
from PIL import Image  # noqa: E402

DEMO = HERE.parents[1] / "deploy/demo_model/files"
IMAGES = HERE.parents[1] / "docs/images"
BYTES_MAX = 200_000
NEGATIVE = "worst quality, displeasing"
PROMPTS = ["red cat, night sky", "1girl, pink hair, beach", "blue fish, underwater", "orange mushroom, grass field", "purple star, sunset",
           "green tree, snow", "yellow boat, cloudy sky", "pink heart, night sky"]


def save(page, name, whole=False):
    path = IMAGES / f"page-{name}.jpg"
    time.sleep(0.8)  # animations and fonts come to rest
    page.js("scrollTo(0, 0)")
    with tempfile.NamedTemporaryFile(suffix=".png") as shot:
        page.screenshot(shot.name, whole)
        Image.open(shot.name).convert("RGB").save(path, quality=86, optimize=True)
    assert path.stat().st_size < BYTES_MAX, path
    print(path.name, path.stat().st_size)


def enter(browser, front, key, path="/", **options):
    page = browser.page(**options)
    page.goto(f"http://127.0.0.1:{front.port}/healthz")
    page.js(f"sessionStorage.setItem('latentd.key', {json.dumps(key)})")
    page.goto(f"http://127.0.0.1:{front.port}{path}")
    page.wait("document.querySelectorAll('#sizes .size').length > 0")
    return page


def paint_all(front, headers):
    base = {"negative_prompt": NEGATIVE, "width": 256, "height": 256, "steps": 20, "cfg_scale": 3}
    sketch = {"seed": 40, "loras": [{"name": "demo-sketch", "weight": 0.9}]}
    for own, prompt in [(sketch, PROMPTS[0]), *[({"seed": 40 + at}, prompt) for at, prompt in reversed(list(enumerate(PROMPTS)))]]:
        front.post("/v1/jobs?wait=120", {**base, "prompt": f"{prompt}, best quality", **own}, headers=headers, timeout=150)


def main(latentd):
    with tempfile.TemporaryDirectory() as folder:
        front = Front(latentd, pathlib.Path(folder), None, "--model", str(DEMO / "demo.safetensors"), "--adapter-dir",
                      str(DEMO / "adapters"), "--embedding-dir", str(DEMO / "embeddings"))
        browser = Browser()
        try:
            add = [latentd, "keys", "add", "studio", "--scopes", "read,generate,admin", "--state-dir", f"{folder}/state"]
            key = subprocess.run(add, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
            headers = {"Authorization": f"Bearer {key}"}
            paint_all(front, headers)
            shots(browser, front, key)
        finally:
            browser.close()
            front.stop()


def shots(browser, front, key):
    on_screen = {"prompt": "red cat, night sky, best quality", "negative_prompt": NEGATIVE, "cfg_scale": 3}
    request = f"import('/page/request.js').then(r => r.replace({json.dumps(on_screen)}))"
    page = enter(browser, front, key)
    page.js(request)
    page.wait("document.querySelector('#main-picture').naturalWidth > 0 && /^[1-9]/.test(document.querySelector('#prompt-tokens').textContent)", 60)
    save(page, "light")
    page.js("location.hash = '#gallery'")
    page.wait("[...document.querySelectorAll('#gallery img')].filter(each => each.naturalWidth).length >= 6", 60)
    save(page, "gallery")
    page.click("#gallery figure:nth-child(1) .chip")
    page.click("#gallery figure:nth-child(9) .chip")
    page.wait("document.querySelector('dialog.compare[open]')")
    page.js("document.querySelectorAll('.toast').forEach(each => each.remove())")
    save(page, "compare")
    page.key("Escape")
    page.js("location.hash = '#admin'")
    page.wait("document.querySelector('#admin .plot path')", 60)
    save(page, "admin")

    dark = enter(browser, front, key, dark=True)
    dark.js(request)
    dark.open_fold("Sampling")
    dark.click("#paint")
    dark.wait("document.querySelector('#main-picture.rough') && /Step 1/.test(document.querySelector('#status-line').textContent)", 60)
    save(dark, "dark")

    phone = enter(browser, front, key, width=390, height=844, scale=2, mobile=True)
    phone.js(request)
    phone.wait("document.querySelector('#main-picture').naturalWidth > 0", 60)
    save(phone, "phone")


if __name__ == "__main__":
    main(sys.argv[1])
