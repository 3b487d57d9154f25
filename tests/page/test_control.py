"""Proves the ControlNet part of the page: what is set by hand reaches the job as it stands on screen, pictures
come by every way there is, refusals stand beside their control, and settings come back with their pictures."""

import json

import pytest
from PIL import Image, ImageDraw

from conftest import DEMO
from test_behaviour import status, take
from test_controls import folded, labelled, request, slider

CHOSEN = "document.querySelector('[data-pointer=\"/control/0/image\"] canvas')"


def drawing(path, size=64):
    picture = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(picture).ellipse((size // 5, size // 5, size * 4 // 5, size * 4 // 5), fill="black")
    picture.save(path)
    return path


def add(page, model="edges"):
    page.open_fold("ControlNet")
    page.set("select[aria-label='Add a ControlNet']", model)


def shown(page, selector):
    return page.js(f"[...document.querySelectorAll({json.dumps(selector)})].filter(each => each.checkVisibility()).length")


def at_rest(page):
    """What the server says of the request moves what is below it, and a drag that begins before it ends elsewhere."""
    page.wait("""new Promise((done) => { const top = () => document.querySelector('.unit').getBoundingClientRect().top + scrollY;
        const before = top(); setTimeout(() => done(top() === before), 700); })""")


def sent(front):
    return front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]["control"]


def test_a_unit_set_by_hand_reaches_the_job_as_it_stands(visit, serve, tmp_path):
    front = serve()
    page = visit(front)
    take(page)
    assert folded(page, "ControlNet") == "none"
    add(page)
    assert request(page)["control"] == [{"model": "edges", "preprocess": "canny"}], "it follows from the name"
    page.choose_file("#control-file-0", drawing(tmp_path / "a.png"))
    page.wait(CHOSEN)
    image = request(page)["control"][0]["image"]
    assert front.get("/v1/images").json["images"][0]["id"] == image["id"]
    slider(page, "control/0/low", 50)
    slider(page, "control/0/high", 150)
    slider(page, "control/0/weight", 0.65)
    labelled(page, ".unit summary span:first-child", "More")
    slider(page, "control/0/start", 0.1)
    slider(page, "control/0/end", 0.8)
    page.set("[data-pointer='/control/0/mode'] select", "prompt")
    page.set("[data-pointer='/control/0/resize'] select", "pad")
    assert shown(page, "[data-pointer='/control/0/passes']") == 0, "there is one pass"
    page.js("import('/page/request.js').then(r => r.set('hires', {}))")
    page.set("[data-pointer='/control/0/passes'] select", "first")
    wanted = {"model": "edges", "image": image, "weight": 0.65, "start": 0.1, "end": 0.8, "mode": "prompt", "preprocess": "canny",
              "low": 50, "high": 150, "resize": "pad", "passes": "first"}
    assert request(page)["control"] == [wanted] and folded(page, "ControlNet") == "edges"
    page.click("#paint")
    status(page, "seed")
    assert sent(front) == [wanted]


def test_only_what_is_not_usual_is_sent(visit, serve):
    page = visit(serve())
    take(page)
    add(page)
    for path, number in (("weight", 1.5), ("weight", 1), ("low", 50), ("low", 100), ("high", 150), ("high", 200), ("start", 0.5), ("start", 0)):
        slider(page, f"control/0/{path}", number)
    page.set("[data-pointer='/control/0/mode'] select", "control")
    page.set("[data-pointer='/control/0/mode'] select", "balanced")
    assert request(page)["control"] == [{"model": "edges", "preprocess": "canny"}]
    page.open_fold("As a program")
    for language in ("JavaScript", "Python", "curl"):
        labelled(page, ".fold button", language)
        assert "edges" in page.text("#code-text") and "undefined" not in page.text("#code-text")


def test_numbers_are_there_where_the_preprocess_has_them(visit, serve):
    page = visit(serve())
    take(page)
    add(page)
    for name, low, high in (("canny", "100", "200"), ("scribble", None, "32"), ("threshold", None, "127"), ("blur", None, "9"), ("tile", None, "1"),
                            ("lineart", None, None), ("invert", None, None), ("luminance", None, None), ("inpaint", None, None), ("none", None, None)):
        page.set("[data-pointer='/control/0/preprocess'] select", name)
        for key, usual in (("low", low), ("high", high)):
            place = f"[data-pointer='/control/0/{key}']"
            assert shown(page, place) == (usual is not None), (name, key)
            if usual:
                assert [page.js(f"document.querySelector(\"{place} input[type={kind}]\").value") for kind in ("number", "range")] == [usual] * 2, (name, key)
                slider(page, f"control/0/{key}", int(usual) + 2)
    assert request(page)["control"] == [{"model": "edges"}], "a number goes with its preprocess"


@pytest.mark.parametrize("name, preprocess", [
    ("control_v11p_sd15_canny", "canny"), ("control_v11p_sd15_lineart", "lineart"), ("control_v11p_sd15s2_lineart_anime", "lineart"),
    ("control_v11p_sd15_scribble", "scribble"), ("control_v11p_sd15_softedge", "scribble"), ("control_v11f1e_sd15_tile", "tile"),
    ("control_v11p_sd15_inpaint", "inpaint"), ("ioclab_sd15_recolor", "luminance"), ("control_v1p_sd15_brightness", "luminance"),
    ("Blur-v2", "blur"), ("demo-edges", "canny"), ("control_v11f1p_sd15_depth", None), ("control_v11p_sd15_openpose", None)])
def test_the_preprocess_follows_from_the_name_until_it_is_chosen(visit, serve, name, preprocess):
    page = visit(serve())
    take(page)
    page.js(f"""(async () => {{ const {{ server, modelChanged }} = await import('/page/server.js');
             server.controlnets.push({{ name: {json.dumps(name)} }}); await modelChanged(); }})()""")
    page.expected.append("422")  # the server has no such model
    wanted = {"model": name, **({"preprocess": preprocess} if preprocess else {})}
    add(page, name)
    assert request(page)["control"] == [wanted]
    page.set("[data-pointer='/control/0/model'] select", "edges")
    assert request(page)["control"][0]["preprocess"] == "canny"
    page.set("[data-pointer='/control/0/model'] select", name)
    assert request(page)["control"] == [wanted]
    page.set("[data-pointer='/control/0/preprocess'] select", "invert")
    page.set("[data-pointer='/control/0/model'] select", "edges")
    assert request(page)["control"] == [{"model": "edges", "preprocess": "invert"}]


PASTE = """(async () => {{ const data = new DataTransfer(); const canvas = document.createElement('canvas'); canvas.width = 24; canvas.height = 16;
    data.items.add(new File([await new Promise((done) => canvas.toBlob(done))], 'pasted.png', {{ type: 'image/png' }}));
    document.querySelector({0}).focus(); document.activeElement.dispatchEvent(new ClipboardEvent('paste', {{ clipboardData: data, bubbles: true }})); }})()"""


def test_pictures_come_by_every_way(visit, serve, tmp_path):
    front = serve()
    front.wait(front.submit(seed=1))
    page = visit(front)
    take(page, prompt="as it was")
    ids = lambda: [unit.get("image", {}).get("id") for unit in request(page).get("control", [])]  # noqa: E731
    add(page)
    at_rest(page)
    page.drop(".unit", drawing(tmp_path / "a.png"))
    page.wait(CHOSEN)
    assert page.js(f"{CHOSEN}.getAttribute('aria-label')") == "Picture for ControlNet 1, 64 by 64"
    dropped = ids()
    page.js(PASTE.format(json.dumps("[data-pointer='/control/0/model'] select")))
    page.wait(f"{CHOSEN}.getAttribute('aria-label').endsWith('24 by 16')")
    assert ids() != dropped
    page.js("location.hash = '#gallery'")
    page.click("#gallery .open")
    page.wait("document.querySelector('.viewer[open]')")
    labelled(page, ".viewer button", "Follow it")
    page.wait("document.querySelector('[data-pointer=\"/control/1/image\"] canvas')")
    assert request(page)["control"][1]["model"] == "edges" and page.js("location.hash") == "#create"
    assert request(page)["prompt"] == "as it was", "none of them gave its settings"
    second = ids()[1]
    page.click("[aria-label='Remove ControlNet 1']")
    assert ids() == [second] and page.js("document.activeElement.getAttribute('aria-label')") == "Add a ControlNet"
    labelled(page, ".unit button", "Remove the picture")
    assert ids() == [None]
    at_rest(page)
    page.drop("details[data-pointer='/control'] > summary", drawing(tmp_path / "b.png"))  # the first that has none
    page.wait(f"{CHOSEN}?.getAttribute('aria-label').endsWith('64 by 64')")
    assert ids() == dropped


def test_three_at_most(visit, serve):
    page = visit(serve())
    take(page)
    for count in (1, 2, 3):
        add(page)
        assert shown(page, ".unit") == count
        assert page.js("document.querySelector('select[aria-label=\"Add a ControlNet\"]').disabled") == (count == 3)
    slider(page, "control/2/weight", 0.25)
    page.click("[aria-label='Remove ControlNet 2']")
    assert shown(page, ".unit") == 2 and page.js("document.querySelector(\"[data-pointer='/control/1/weight'] input\").value") == "0.25"
    unnamed = page.js("""[...document.querySelectorAll('.unit :is(button, input, select)')].filter(each =>
        !(each.textContent.trim() || each.getAttribute('aria-label') || each.labels?.[0]?.textContent)).map(each => each.outerHTML)""")
    assert not unnamed, unnamed
    for _ in range(2):
        page.click("[aria-label='Remove ControlNet 1']")
    assert "control" not in request(page) and shown(page, ".unit") == 0


def test_a_server_without_any_offers_none(visit, serve, tmp_path):
    (tmp_path / "none").mkdir()
    page = visit(serve(None, "--model", str(DEMO / "demo.safetensors"), "--controlnet-dir", str(tmp_path / "none")))
    page.open_fold("ControlNet")
    assert page.js("(add => [add.disabled, add.textContent])(document.querySelector('select[aria-label=\"Add a ControlNet\"]'))") == [
        True, "This server has no ControlNets"]
    assert shown(page, ".unit") == 0


def test_a_refusal_stands_beside_its_control(visit, serve, tmp_path):
    page = visit(serve())
    page.expected.append("422")
    take(page)
    add(page)
    page.js("new Promise(done => setTimeout(done, 800))")
    assert not page.js("Boolean(document.querySelector('.refusal'))"), "one that waits for its picture is let alone while it does"
    page.click("#paint")
    page.wait("/image is required/.test(document.querySelector('[data-pointer=\"/control/0/image\"] .error')?.textContent)")
    page.choose_file("#control-file-0", drawing(tmp_path / "a.png"))
    page.wait("!document.querySelector('.refusal')")
    slider(page, "control/0/high", 210)
    slider(page, "control/0/low", 250)
    page.wait("/at most control.high/.test(document.querySelector('[data-pointer=\"/control/0/low\"] .error')?.textContent)")
    slider(page, "control/0/low", 100)
    slider(page, "control/0/start", 1)  # folded away
    page.wait("/below control.end/.test(document.querySelector('[data-pointer=\"/control/0/start\"] .error')?.textContent)")
    assert shown(page, "[data-pointer='/control/0/start'] .error") == 1


def test_settings_come_back_with_their_pictures(visit, serve, tmp_path):
    front = serve()
    page = visit(front)
    take(page, seed=3)
    add(page)
    page.choose_file("#control-file-0", drawing(tmp_path / "a.png"))
    page.wait(CHOSEN)
    slider(page, "control/0/weight", 0.5)
    wanted = request(page)["control"]
    page.click("#paint")
    status(page, "seed")
    job = front.get("/v1/jobs?limit=1").json["jobs"][0]
    take(page, prompt="another")

    def use_settings():
        page.js("location.hash = '#gallery'")
        page.click("#gallery .open")
        page.wait("document.querySelector('.viewer[open]')")
        assert "edges 0.5 preprocess canny" in page.text(".viewer dl")
        page.click("#use-settings")
        page.wait(f"JSON.parse(localStorage.getItem('latentd.request')).control && document.querySelector('#prompt').value === {json.dumps(job['request']['prompt'])}")

    use_settings()
    assert request(page)["control"] == wanted and page.js(f"Boolean({CHOSEN})"), "only what is not usual, and the picture shown"
    page.goto(page.origin)  # what is kept over a reload has the picture too, though only the server has its bytes now
    page.wait("document.querySelectorAll('#sizes .size').length > 0")  # what comes later moves the button
    at_rest(page)
    page.wait("/cannot be shown/.test(document.querySelector('[data-pointer=\"/control/0/image\"]').textContent)")
    assert request(page)["control"] == wanted
    page.click("#paint")
    page.wait("fetch('/v1/jobs').then(r => r.json()).then(d => d.jobs.length === 2 && d.jobs.every(each => each.status === 'succeeded'))")
    assert sent(front)[0]["image"] == wanted[0]["image"]
    page.js("""(() => { const asked = window.fetch; window.fetch = (path, ...rest) => path === '/v1/images'
             ? Promise.resolve(new Response('{"images": []}')) : asked(path, ...rest); })()""")
    take(page, prompt="another")
    page.expected.append("422")
    use_settings()
    page.wait("/the picture of ControlNet 1 must be chosen again/.test(document.querySelector('#toasts').textContent)")
    assert request(page)["control"] == [{name: each for name, each in wanted[0].items() if name != "image"}]


def test_a_hint_becomes_a_picture(visit, serve, tmp_path):
    front = serve(None, "--model", str(DEMO / "demo.safetensors"), "--controlnet-dir", str(DEMO / "controlnets"))
    page = visit(front)
    take(page, prompt="red cat, night sky", seed=4)
    pictures = []
    for weight in (None, 1, 0):
        if weight == 1:
            add(page, "demo-edges")
            page.choose_file("#control-file-0", drawing(tmp_path / "a.png"))
            page.wait(CHOSEN)
        if weight is not None:
            slider(page, "control/0/weight", weight)
        page.click("#paint")
        page.wait(f"fetch('/v1/jobs').then(r => r.json()).then(d => d.jobs.length === {len(pictures) + 1} && d.jobs[0].status === 'succeeded')")
        pictures.append(front.picture(front.get("/v1/jobs?limit=1").json["jobs"][0]["id"]))
    decoded = []
    for at, data in enumerate(pictures):
        (tmp_path / f"{at}.png").write_bytes(data)
        decoded.append(Image.open(tmp_path / f"{at}.png").convert("RGB").tobytes())
    assert decoded[0] == decoded[2] != decoded[1], "without weight it does nothing, with it something"
    image = request(page)["control"][0]["image"]
    take(page, prompt="another")
    page.drop("#stage", tmp_path / "1.png")
    page.wait("document.querySelector('#prompt').value === 'red cat, night sky'")
    assert request(page)["control"] == [{"model": "demo-edges", "image": image, "preprocess": "canny"}] and page.js(f"Boolean({CHOSEN})")
    page.click("#paint")
    page.wait("fetch('/v1/jobs').then(r => r.json()).then(d => d.jobs.length === 4 && d.jobs[0].status === 'succeeded')")
    assert front.picture(front.get("/v1/jobs?limit=1").json["jobs"][0]["id"]) == pictures[1]
