"""Proves a whole session in a real browser with the demo model: from a prompt to a picture and back
from a picture to its settings, image to image under a mask, and that the printed programs paint the
very picture that is on screen."""

import json
import subprocess
import sys

SMALL = {"width": 64, "height": 64, "steps": 4}
REQUEST = "JSON.parse(localStorage.getItem('latentd.request'))"


def settings(page):
    return page.js(REQUEST)


def newest(front):
    return front.get("/v1/jobs?limit=1").json["jobs"][0]


def finish(page, front, before):
    """The job that the page submitted after `before`, ended and shown."""
    page.wait(f"fetch('/v1/jobs?limit=1').then(r => r.json()).then(d => d.jobs[0].id !== {json.dumps(before)})")
    job = front.wait(newest(front)["id"])
    assert job["status"] == "succeeded", job
    page.wait(f"document.querySelector('#main-picture').dataset.path === {json.dumps(job['images'][0]['url'])}"
              " && document.querySelector('#main-picture').naturalWidth > 0")
    return job


def last_id(front):
    jobs = front.get("/v1/jobs?limit=1").json["jobs"]
    return jobs[0]["id"] if jobs else ""


def small(page, **more):
    page.js(f"import('/page/request.js').then(r => r.replace({json.dumps({'prompt': 'red cat, snow', **SMALL, **more})}))")


def test_from_prompt_to_picture(visit, demo, tmp_path):
    page, before = visit(demo), last_id(demo)
    page.click("#prompt")
    page.write("red ca")
    page.write("t, night sk")
    page.wait("document.querySelector('#prompt-tags:not([hidden])')?.textContent.includes('night sky')")
    page.key("Enter")
    assert page.js("document.querySelector('#prompt').value") == "red cat, night sky, "
    page.js("document.querySelector('#prompt').setSelectionRange(5, 5)")
    page.key("ArrowUp", "Control")
    page.key("ArrowUp", "Control")
    assert page.js("document.querySelector('#prompt').value") == "(red cat:1.2), night sky, "
    page.wait("document.querySelector('#prompt-tokens').textContent === '6 of 75 tokens'")
    assert settings(page)["prompt"] == "(red cat:1.2), night sky, "

    page.set("#size-width", "128")
    page.set("#size-height", "64")
    page.open_fold("Sampling")
    page.set("[data-pointer='/steps'] input[type=number]", "12")
    page.click("#prompt")
    page.key("Enter", "Control")
    page.wait("document.querySelector('#stage .progress:not([hidden])')")
    kind = "jpeg" if "jpeg" in demo.get("/version").json["formats"] else "png"
    page.wait(f"document.querySelector('#main-picture.rough')?.src.startsWith('data:image/{kind};base64,')")
    job = finish(page, demo, before)
    assert (job["request"]["steps"], job["images"][0]["width"], job["images"][0]["height"]) == (12, 128, 64)
    assert job["request"]["preview"]["every"] == 2
    page.wait(f"document.querySelector('#status-line').textContent.includes('seed {job['images'][0]['seed']}')")

    page.click("#seed-lock")  # the same again, to the byte
    assert settings(page)["seed"] == job["images"][0]["seed"]
    before = last_id(demo)
    page.click("#paint")
    assert finish(page, demo, before)["images"][0]["sha256"] == job["images"][0]["sha256"]

    page.open_fold("As a program")  # and once more, by the programs on screen
    page.wait("document.querySelector('#code-text').textContent.startsWith('curl')")
    painted = demo.picture(job["id"])
    subprocess.run(["bash", "-c", page.text("#code-text")], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "out.png").read_bytes() == painted
    page.js("[...document.querySelectorAll('.fold button')].find(each => each.textContent === 'Python').click()")
    subprocess.run([sys.executable, "-c", page.text("#code-text")], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "out.png").read_bytes() == painted


def test_a_dropped_picture_gives_its_settings(visit, demo, tmp_path):
    wanted = {"prompt": "blue star, <snow>", "negative_prompt": "worst quality", "cfg_scale": 3.5, "sampler": "heun", "scheduler": "karras",
              "seed": 77, "loras": [{"name": "demo-sketch", "weight": 0.6}], "guidance": {"rescale": 0.3}, **SMALL}
    answer = demo.post("/v1/jobs", wanted, headers={"Accept": "image/png"})
    (tmp_path / "star.png").write_bytes(answer.body)
    page = visit(demo)
    page.drop("#stage", tmp_path / "star.png")
    page.wait("document.querySelector('#prompt').value === 'blue star, <snow>'")
    assert page.js("document.querySelector('#negative').value") == "worst quality"
    now = settings(page)
    assert {name: now.get(name) for name in ("cfg_scale", "sampler", "seed")} == {"cfg_scale": 3.5, "sampler": "heun", "seed": 77}
    assert "0.3" in page.js("document.querySelector('#more-fields').value")
    assert page.js("document.querySelector('.adapter input[type=number]').value") == "0.6"
    before = last_id(demo)
    page.click("#paint")
    assert demo.picture(finish(page, demo, before)["id"]) == answer.body
    page.expected.append("415 (Unsupported Media Type)")
    page.drop("#stage", __file__)  # not a picture at all
    page.wait("document.querySelector('#toasts').textContent.includes('not a PNG, JPEG or WebP file')")


def test_a_mask_keeps_what_it_does_not_cover(visit, demo, tmp_path):
    source = demo.post("/v1/jobs", {"prompt": "green fish, beach", "seed": 3, **SMALL}, headers={"Accept": "image/png"}).body
    (tmp_path / "fish.png").write_bytes(source)
    page = visit(demo)
    small(page, seed=9)
    page.choose_file("#source-file", tmp_path / "fish.png")
    page.wait(f"{REQUEST}.init?.image?.id")
    page.js("import('/page/request.js').then(r => r.set('init.strength', 1))")
    page.click("#mask-open")
    page.wait("document.querySelector('.mask-dialog[open]')")
    page.set(".mask-dialog input[type=range]", "20")
    box = page.js("(b => [b.x, b.y, b.width, b.height])(document.querySelector('.mask-layer').getBoundingClientRect())")
    x, y = box[0] + box[2] * 0.2, box[1] + box[3] * 0.2
    page.mouse("mouseMoved", x, y)
    page.mouse("mousePressed", x, y, 1)
    for part in range(1, 9):
        page.mouse("mouseMoved", x, y + box[3] * 0.6 * part / 8, 1)
    page.mouse("mouseReleased", x, y + box[3] * 0.6)
    page.key("ArrowUp")  # and a dot by the keyboard
    page.key(" ")
    page.click("#mask-done")
    page.wait(f"{REQUEST}.init.mask?.id")
    before = last_id(demo)
    page.click("#paint")
    painted = demo.picture(finish(page, demo, before)["id"])
    (tmp_path / "new.png").write_bytes(painted)
    from PIL import Image, ImageChops
    changed = ImageChops.difference(Image.open(tmp_path / "new.png").convert("RGB"), Image.open(tmp_path / "fish.png").convert("RGB"))
    left, right = changed.crop((0, 0, 26, 64)), changed.crop((32, 0, 64, 64))
    assert right.getbbox() is None, "the part that was not painted over must stay"
    assert left.getbbox() is not None, "the part that was painted over must change"


def test_settings_and_start_from_the_gallery(visit, demo):
    job = demo.wait(demo.submit(prompt="pink heart, sunset", seed=21, **SMALL))
    page = visit(demo, "/#gallery")
    page.click(f"#gallery img[data-path='{job['images'][0]['url']}']")
    page.wait("document.querySelector('.viewer[open]')")
    page.click("#use-settings")
    page.wait("location.hash === '#create' && document.querySelector('#prompt').value === 'pink heart, sunset'")
    assert settings(page)["seed"] == 21
    page.js("location.hash = '#gallery'")
    page.click(f"#gallery img[data-path='{job['images'][0]['url']}']")
    page.wait("document.querySelector('.viewer[open]')")
    page.js("[...document.querySelectorAll('.viewer button')].find(each => each.textContent === 'Paint again').click()")
    page.wait("document.querySelector('.viewer').textContent.includes('every byte is the same')", 60)
    page.js("[...document.querySelectorAll('.viewer button')].find(each => each.textContent === 'Start from it').click()")
    page.wait(f"{REQUEST}.init?.image?.id && document.querySelector('.source canvas')")
