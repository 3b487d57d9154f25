"""Proves every control of the page, one line of its list after another: what a click or a key puts into
the request that is sent, what the server says about it beside the control, and what an admin sees."""

import json
import re
import shutil
import subprocess

import pytest

from conftest import DEMO
from test_behaviour import press, status, take

REQUEST = "JSON.parse(localStorage.getItem('latentd.request'))"


def request(page):
    return page.js(REQUEST)


def labelled(page, inside, text):
    """Clicks the button, label or summary of that text."""
    find = f"[...document.querySelectorAll({json.dumps(inside)})].find(each => each.textContent.trim() === {json.dumps(text)})"
    page.wait(find)
    page.js(f"{find}.click()")


def folded(page, title):
    return page.js(f"[...document.querySelectorAll('details.fold')].find(each => each.querySelector('summary span').textContent === {json.dumps(title)})"
                   ".querySelector('.said').textContent")


def slider(page, path, number):
    page.set(f"[data-pointer='/{path}'] input[type=number]", str(number))
    assert page.js(f"document.querySelector(\"[data-pointer='/{path}'] input[type=range]\").value") == str(number)


# ---- Prompt ----

def test_tokens_are_counted_chunk_by_chunk(visit, demo):
    page = visit(demo)  # the scripted worker has no vocabulary
    take(page, prompt="a cat")
    page.wait("/^[1-9][0-9]* of 75 tokens$/.test(document.querySelector('#prompt-tokens').textContent)")
    take(page, prompt="cat, " * 60)
    page.wait("/^[0-9]+ tokens in 2 chunks$/.test(document.querySelector('#prompt-tokens').textContent)")
    page.open_fold("Negative prompt")
    page.set("#negative", "a dog")
    page.wait("/^[1-9] of 75 tokens$/.test(document.querySelector('#negative-tokens').textContent)")
    assert request(page)["negative_prompt"] == "a dog"


@pytest.mark.parametrize("syntax, up, down", [("a1111", "(a cat:1.1), b", "a cat, b"), ("novelai", "{a cat}, b", "a cat, b")])
def test_the_keyboard_weighs_a_tag(visit, serve, syntax, up, down):
    page = visit(serve())
    take(page, prompt="a cat, b", syntax=syntax)
    page.click("#prompt")
    page.js("document.querySelector('#prompt').setSelectionRange(3, 3)")
    page.key("ArrowUp", "Control")
    assert request(page)["prompt"] == up
    page.key("ArrowDown", "Control")
    assert request(page)["prompt"] == down


def test_chips_put_words_or_the_presets_of_the_model(visit, serve, demo):
    page = visit(serve())
    take(page)
    labelled(page, "#chips button", "best quality")
    page.set("#chips select[aria-label=Rating]", "rating:general")
    page.set("#chips select[aria-label=Year]", "year 2023")
    assert request(page)["prompt"] == "a cat, best quality, rating:general, year 2023"
    labelled(page, "#chips button", "best quality")
    page.set("#chips select[aria-label=Rating]", "")
    assert request(page)["prompt"] == "a cat, year 2023"
    own = visit(demo)  # a model that has a preset of its own
    take(own)
    labelled(own, "#chips button", "Quality")
    assert request(own)["quality_tags"] and own.js("document.querySelector('#chips button[aria-pressed=true]').title")
    own.set("#chips select[aria-label=Avoid]", own.js("document.querySelector('#chips select[aria-label=Avoid]').options[1].value"))
    assert request(own)["undesired"] != "none" and request(own)["prompt"] == "a cat"


# ---- Size and sampling ----

def test_sizes_of_the_model_and_advice_beyond_them(visit, serve):
    page = visit(serve())
    labelled(page, "#sizes .size", "512×768")
    assert (request(page).get("width", 512), request(page)["height"]) == (512, 768)
    assert page.text("#sizes .hint") == ""
    page.click("#sizes [aria-label='Swap width and height']")
    assert request(page)["width"] == 768 and page.text("#sizes .size[aria-pressed=true]") == "768×512"
    page.set("#size-width", "1536")
    assert "Larger than the model was trained on" in page.text("#sizes .hint")
    page.set("#size-width", "520")
    assert "multiples of 64" in page.text("#sizes .hint")


def test_sampling_with_a_hint_for_each_choice(visit, serve):
    front = serve("step_ms=1")
    page = visit(front)
    take(page)
    page.open_fold("Sampling")
    for path, name, hint in (("sampler", "dpmpp_2m", front.get("/v1/samplers").json["samplers"]), ("scheduler", "karras", front.get("/v1/schedulers").json["schedulers"])):
        wanted = next(each["hint"] for each in hint if each["name"] == name)
        page.set(f"[data-pointer='/{path}'] select", name)
        assert page.text(f"[data-pointer='/{path}'] .hint") == wanted and wanted
        assert page.js(f"document.querySelector(\"[data-pointer='/{path}'] optgroup\").label") == "Advised for this model"
    slider(page, "steps", 9)
    slider(page, "cfg_scale", 5.5)
    slider(page, "clip_skip", 3)
    page.set("#seed", "18446744073709551615")  # the largest there is, as text: no number of JavaScript's holds it
    assert "9 steps, CFG 5.5, seed kept" in folded(page, "Sampling")
    page.click("#paint")
    status(page, "seed 18446744073709551615")
    sent = front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]
    assert {name: sent[name] for name in ("sampler", "scheduler", "steps", "cfg_scale", "clip_skip")} == {
        "sampler": "dpmpp_2m", "scheduler": "karras", "steps": 9, "cfg_scale": 5.5, "clip_skip": 3}
    page.click("#seed-lock")
    assert "seed" not in request(page)


def test_adapters_with_strength_and_trigger_words(visit, serve):
    front = serve()
    page = visit(front)
    take(page)
    page.open_fold("Adapters")
    page.set("select[aria-label='Add an adapter']", "ink")
    page.wait("document.querySelector('.adapter')")
    page.set(".adapter input[type=number]", "0.65")
    assert page.js("document.querySelector('.adapter input[type=range]').value") == "0.65"
    labelled(page, ".adapter .chip", "ink")
    assert request(page)["loras"] == [{"name": "ink", "weight": 0.65}] and request(page)["prompt"] == "a cat, ink"
    page.click("#paint")
    status(page, "seed")
    assert front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]["loras"][0]["weight"] == 0.65
    page.click("[aria-label='Remove ink']")
    page.wait("!document.querySelector('.adapter')")
    assert "loras" not in request(page) and folded(page, "Adapters") == "none"


def test_second_pass_and_deep_shrink(visit, serve):
    front = serve()
    page = visit(front)
    take(page)
    page.open_fold("High resolution")
    labelled(page, ".switch", "Second pass")
    slider(page, "hires/scale", 2)
    slider(page, "hires/strength", 0.4)
    page.set("[data-pointer='/hires/upscaler'] select", "latent-bicubic")
    labelled(page, ".switch", "Deep shrink")
    slider(page, "deep_shrink/factor", 1.5)
    assert folded(page, "High resolution") == "second pass to 128×128, deep shrink"
    page.click("#paint")
    status(page, "128×128 .* seed")
    sent = front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]
    assert (sent["hires"]["scale"], sent["hires"]["strength"], sent["hires"]["upscaler"], sent["deep_shrink"]["factor"]) == (2, 0.4, "latent-bicubic", 1.5)
    labelled(page, ".switch", "Second pass")
    assert "hires" not in request(page)


# ---- While it is painted ----

def test_steps_time_left_and_the_next_in_the_queue(visit, serve):
    front = serve("step_ms=60")
    page = visit(front)
    take(page, steps=60)
    page.click("#paint")
    status(page, r"Step \d+ of 60 · .* left")
    now = int(page.js("document.querySelector('#stage [role=progressbar]').getAttribute('aria-valuenow')"))
    page.wait(f"Number(document.querySelector('#stage [role=progressbar]').getAttribute('aria-valuenow')) > {now}")
    assert re.fullmatch(r"\d+ % · latentd", page.js("document.title"))
    page.click("#paint")
    page.wait("document.querySelector('#queue-count').textContent === '2'")
    page.js("location.hash = '#queue'")
    page.wait("document.querySelectorAll('#queue ol.jobs > li').length === 2 && /Step/.test(document.querySelector('#queue ol').textContent)")
    page.click("#queue ol li:last-child button")
    page.wait("document.querySelectorAll('#queue ol.jobs > li').length === 1 && /Cancelled/.test(document.querySelector('#queue ul').textContent)")
    page.click("#queue ol li:first-child button")
    page.wait("/Nothing is waiting/.test(document.querySelector('#queue ol').textContent)")


# ---- Pictures ----

def test_a_picture_is_downloaded_under_its_seed(visit, serve, tmp_path):
    front = serve()
    job = front.wait(front.submit(seed=77))
    page = visit(front, "/#gallery")
    page.browser.call("Browser.setDownloadBehavior", behavior="allow", browserContextId=page.context, downloadPath=str(tmp_path))
    page.click("#gallery .open")
    page.wait("document.querySelector('.viewer[open]')")
    page.click("#download")
    wanted = tmp_path / "latentd-77.png"
    for _ in range(200):
        if wanted.exists():
            break
        page.js("new Promise(done => setTimeout(done, 50))")
    assert wanted.read_bytes() == front.picture(job["id"])


def test_a_picture_of_another_program_gives_its_settings_too(visit, serve, tmp_path):
    from PIL import Image, PngImagePlugin
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a (red:1.2) fox\nNegative prompt: blurry\nSteps: 11, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.5, Seed: 99, Size: 64x128, Clip skip: 2")
    Image.new("RGB", (64, 128), "red").save(tmp_path / "a1111.png", pnginfo=text)
    page = visit(serve())
    page.drop("#stage", tmp_path / "a1111.png")
    page.wait("document.querySelector('#prompt').value === 'a (red:1.2) fox'")
    now = request(page)
    assert {name: now.get(name) for name in ("negative_prompt", "steps", "sampler", "scheduler", "cfg_scale", "seed", "width", "height")} == {
        "negative_prompt": "blurry", "steps": 11, "sampler": "dpmpp_2m", "scheduler": "karras", "cfg_scale": 4.5, "seed": 99, "width": 64, "height": 128}


def test_pictures_leave_and_come_back_as_webp_and_jpeg(visit, serve, tmp_path):
    front = serve()
    page = visit(front)
    for name, ending in (("webp", "webp"), ("jpeg", "jpg")):
        take(page, seed=31)
        page.open_fold("Everything else")
        page.js(f"""(() => {{ const select = [...document.querySelectorAll('.field[data-pointer="/output/format"] select')][0];
                 select.value = '{name}'; select.dispatchEvent(new Event('change')); }})()""")
        assert request(page)["output"] == {"format": name}
        page.open_fold("As a program")
        page.wait(f"document.querySelector('#code-text').textContent.includes('Accept: image/{name}')")
        assert f"-o out.{ending}" in page.text("#code-text")
        job = front.post("/v1/jobs", request(page)).json["id"]
        picture = front.get(front.wait(job)["images"][0]["url"])
        assert picture.headers["Content-Type"] == f"image/{name}"
        (tmp_path / f"back.{ending}").write_bytes(picture.body)
        take(page, seed=1)
        page.drop("#stage", tmp_path / f"back.{ending}")
        page.wait("document.querySelector('#seed').value === '31'")
        assert request(page)["output"] == {"format": name}  # the page's own choice, whatever is dropped
    page.set("#more-fields", '{"output": {"format": "webp", "quality": 40}}')
    assert request(page)["output"] == {"format": "webp", "quality": 40}
    page.set("#more-fields", "")
    assert "output" not in request(page)


def test_a_server_that_writes_png_only_offers_nothing_else(visit, serve):
    front = serve()
    page = visit(front)
    page.js("""(async () => { const { server, modelChanged } = await import('/page/server.js');
             server.formats = ['png']; await modelChanged(); })()""")
    page.wait("""document.querySelector('.field[data-pointer="/output/format"]').hidden""")
    take(page, steps=2)
    page.click("#paint")
    status(page, "64×64 .* seed")
    assert front.get("/v1/jobs?limit=1").json["jobs"][0]["request"]["preview"].get("format", "png") == "png"


@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node.js here")
def test_the_printed_javascript_paints_what_is_on_screen(visit, serve, tmp_path):
    front = serve()
    page = visit(front)
    take(page, seed=5, prompt="it's \"quoted\" ${x} `y` \\")
    page.open_fold("As a program")
    page.wait("document.querySelector('#code-text').textContent.startsWith('curl')")
    labelled(page, ".fold button", "JavaScript")
    (tmp_path / "program.mjs").write_text(page.text("#code-text"))
    subprocess.run(["node", "program.mjs"], cwd=tmp_path, check=True, timeout=60)
    job = front.get("/v1/jobs?limit=1").json["jobs"][0]
    assert job["request"]["prompt"] == "it's \"quoted\" ${x} `y` \\"
    assert (tmp_path / "out.png").read_bytes() == front.picture(job["id"])


# ---- Admin ----

@pytest.fixture
def admin(visit, serve, latentd, tmp_path):
    """admin(script, ...) opens the page for a key that may everything; its front and its headers."""
    def go(script="", path="/#admin", flags=(), **options):
        front = serve(script, *flags)
        add = [latentd, "keys", "add", "root", "--scopes", "read,generate,admin", "--state-dir", str(tmp_path / "state")]
        key = subprocess.run(add, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        page = visit(front, ready=False, **options)
        page.expected.append("401")
        page.wait("document.querySelector('dialog.key[open]')")
        page.set("#key-input", key)
        page.click("dialog.key .primary")
        page.wait("document.querySelectorAll('#sizes .size').length > 0 && !document.querySelector('#nav-admin').hidden")
        page.js(f"location.hash = {json.dumps(path[1:])}")
        return page, front, {"Authorization": f"Bearer {key}"}
    return go


def test_an_admin_unloads_and_loads_models(admin):
    page, front, bearer = admin(None, flags=("--model", str(DEMO / "demo.safetensors")))  # the scripted worker holds none
    state = lambda: front.get("/v1/models", headers=bearer).json["data"][0]["loaded"]  # noqa: E731
    page.wait("document.querySelector('#admin').textContent.includes('in memory')")
    press(page, "#admin", "Unload")
    page.wait("document.querySelector('#admin').textContent.includes('on disk')", 30)
    assert not state()
    press(page, "#admin", "Load")
    page.wait("document.querySelector('#admin').textContent.includes('in memory')", 30)
    assert state()


def test_an_admin_has_the_folders_looked_into_again(admin, tmp_path):
    folder = tmp_path / "adapters"
    folder.mkdir()
    shutil.copy(DEMO / "adapters" / "demo-sketch.safetensors", folder / "old.safetensors")
    page, _, _ = admin(None, flags=("--model", str(DEMO / "demo.safetensors"), "--adapter-dir", str(folder)))
    said = "document.querySelector('#rescan-said').textContent"
    page.wait("document.querySelector('#admin td button')")

    def look(expected):
        page.key("Enter")
        page.wait(f"{said}.startsWith({json.dumps(expected)})", 30)
        assert page.js("document.activeElement.id") == "rescan"
        return page.js(said)

    page.js("[...document.querySelectorAll('#admin td button')].at(-1).focus()")
    page.key("Tab")
    assert page.js("document.activeElement.id") == "rescan"
    assert look("Nothing has changed.") == "Nothing has changed."
    whole = (folder / "old.safetensors").read_bytes()
    shutil.copy(folder / "old.safetensors", folder / "new.safetensors")
    (folder / "cut.safetensors").write_bytes(whole[:len(whole) // 2])
    assert "cut (adapter): " in look("Came: 1 adapter. Refused: 1 file.")
    offered = "[...document.querySelectorAll('[data-pointer=\"/loras\"] select option')].map(each => each.value)"
    assert page.js(offered) == ["", "new", "old"], "the lists are those of now"
    (folder / "old.safetensors").unlink()
    (folder / "cut.safetensors").unlink()
    assert look("Went: 1 adapter.") == "Went: 1 adapter."
    assert page.js(offered) == ["", "new"]


def test_who_is_no_admin_sees_none_of_it(admin, latentd, tmp_path):
    page, front, _ = admin("scan_ms=1")
    page.wait("document.querySelector('#rescan').checkVisibility()")
    add = [latentd, "keys", "add", "guest", "--scopes", "read,generate", "--state-dir", str(tmp_path / "state")]
    key = subprocess.run(add, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    page.expected.append("403")
    page.js(f"sessionStorage.setItem('latentd.key', {json.dumps(key)})")
    page.js("document.querySelector('#rescan').click()")  # it was on screen when the key changed
    page.wait("/admin/.test(document.querySelector('#toasts').textContent)")
    assert page.js("document.querySelector('#rescan-said').textContent") == ""
    page.goto(f"http://127.0.0.1:{front.port}/")
    page.wait("document.querySelectorAll('#sizes .size').length > 0")
    assert page.js("document.querySelector('#nav-admin').hidden && !document.querySelector('#rescan')")


def test_the_administration_is_built_once_however_often_it_is_opened_while_it_comes(admin):
    page, _, _ = admin(path="/#create")
    page.call("Network.emulateNetworkConditions", offline=False, latency=150, downloadThroughput=-1, uploadThroughput=-1)
    assert page.js("""(async () => { let built = 0;
        new MutationObserver((all) => { for (const each of all) for (const node of each.addedNodes) built += node.matches('.head'); })
            .observe(document.querySelector('#admin'), { childList: true });
        for (const name of ['admin', 'create', 'admin', 'gallery', 'admin']) { location.hash = name; await new Promise((done) => setTimeout(done, 20)); }
        while (!built) await new Promise((done) => setTimeout(done, 20));
        await new Promise((done) => setTimeout(done, 1000));
        return built; })()""") == 1
    page.wait("document.querySelector('#admin .plot')")


def test_the_plot_grows_with_the_metrics_of_all_jobs(admin):
    page, front, bearer = admin("step_ms=2")
    page.wait("document.querySelector('#admin .plot')")
    asked = "performance.getEntriesByType('resource').filter(each => each.name.endsWith('/metrics')).length"
    for seed in range(3):  # a point needs a job between two readings
        readings = page.js(asked)
        front.post("/v1/jobs?wait=20", {"prompt": "a cat", "width": 64, "height": 64, "steps": 2, "seed": seed}, headers=bearer)
        page.wait(f"{asked} > {readings}", 30)
    page.wait("document.querySelector('#admin').textContent.includes('All jobs of the last minutes')", 30)
    assert page.js("document.querySelectorAll('#admin .plot g').length") == 2
    assert page.js("document.querySelectorAll('#admin .plot circle').length") >= 4
    assert all("L" in line for line in page.js("[...document.querySelectorAll('#admin .plot path')].map(each => each.getAttribute('d'))"))


@pytest.mark.parametrize("width", [320, 360, 390])
def test_every_view_is_reached_on_a_phone(admin, width):
    page, _, _ = admin(path="/#create", width=width, height=780, scale=2, mobile=True)
    for name in ("create", "gallery", "queue", "admin"):
        left, right, under = page.js(f"""(() => {{ const link = document.querySelector('#nav-{name}'); const box = link.getBoundingClientRect();
            return [box.left, box.right, document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)?.closest('[id]').id]; }})()""")
        assert left >= 0 and right <= width and under == f"nav-{name}", (name, under)
        page.tap(f"#nav-{name}")
        page.wait(f"!document.querySelector('#{name}').hidden")
        assert page.js("document.documentElement.scrollWidth") <= width, name


# ---- Looks ----

CONTRAST = """(() => {
  const probe = document.createElement('div'); document.body.append(probe);
  const light = (name) => { probe.style.color = `var(--${name})`;
    const [r, g, b] = getComputedStyle(probe).color.match(/[0-9.]+/g).map((each) => { const c = each / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const pairs = [['on-accent', 'accent'], ['accent', 'tint'], ...['ink', 'soft', 'faint', 'accent', 'wrong'].flatMap((text) => [[text, 'paper'], [text, 'card']])];
  return pairs.map(([text, ground]) => { const [a, b] = [light(text), light(ground)].sort(); return [text, ground, (b + 0.05) / (a + 0.05)]; });
})()"""
CONTRAST_MIN = 4.5  # WCAG 2.2, 1.4.3


def test_it_can_be_read_in_light_and_in_dark(visit, serve):
    front = serve()
    for dark in (False, True):
        page = visit(front, dark=dark)
        ground = page.js("getComputedStyle(document.documentElement).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark
        poor = [pair for pair in page.js(CONTRAST) if pair[2] < CONTRAST_MIN]
        assert not poor, poor
        page.click("#bar-end button[title='Colours: auto']")  # light, whatever the system says
        page.click("#bar-end button[title='Colours: light']")
        assert page.js("document.documentElement.dataset.theme") == "dark"
        page.goto(f"{page.origin}")
        page.wait("document.documentElement.dataset.theme === 'dark'")  # and it is kept
