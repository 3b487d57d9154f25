"""A real Chromium, driven over its DevTools protocol through a pair of pipes (messages are JSON ended
by a zero byte), so that no library and no port is needed. Waits are bounded; what the page writes to
its console as an error is kept for the tests to judge."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PATIENCE = 60
MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}
KEYS = {"ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Tab": 9, "Escape": 27, " ": 32,
        "Home": 36, "End": 35, "Backspace": 8}


def find():
    """The browser's path, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Failed(AssertionError):
    pass


class Browser:
    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(prefix="latentd-page-")
        to_read, self.to_write = os.pipe()
        self.from_read, to_reply = os.pipe()
        flags = ["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-default-browser-check",
                 "--disable-extensions", "--mute-audio", "--hide-scrollbars", "--force-color-profile=srgb",
                 f"--user-data-dir={self.profile.name}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium's sandbox refuses root
        command = f'exec "$@" 3<&{to_read} 4>&{to_reply}'
        self.process = subprocess.Popen(["/bin/bash", "-c", command, "chromium", find(), *flags, "about:blank"],
                                        pass_fds=(to_read, to_reply), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_reply)
        self.serial, self.rest, self.replies, self.pages = 0, b"", {}, {}
        self.call("Browser.getVersion")

    def call(self, method, session=None, seconds=PATIENCE, **params):
        self.serial += 1
        message = {"id": self.serial, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.to_write, json.dumps(message).encode() + b"\0")
        wanted, deadline = self.serial, time.monotonic() + seconds
        while wanted not in self.replies:
            self.read(deadline - time.monotonic(), method)
        reply = self.replies.pop(wanted)
        if "error" in reply:
            raise Failed(f"{method}: {reply['error']['message']}")
        return reply["result"]

    def read(self, seconds, what):
        ready, _, _ = select.select([self.from_read], [], [], max(0, seconds))
        if not ready:
            raise Failed(f"the browser did not answer: {what}")
        piece = os.read(self.from_read, 1 << 20)
        if not piece:
            raise Failed("the browser has ended")
        *whole, self.rest = (self.rest + piece).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self.replies[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].event(message["method"], message["params"])

    def page(self, url=None, width=1280, height=860, **options):
        """A tab of its own person: nothing is shared with other pages."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        return Page(self, context, url, width, height, **options)

    def close(self):
        try:
            self.call("Browser.close", seconds=5)
        except Failed:
            pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        os.close(self.to_write)
        os.close(self.from_read)
        try:
            self.profile.cleanup()
        except OSError:
            pass  # a helper process of the browser still writes: the folder is in /tmp


class Page:
    def __init__(self, browser, context, url, width, height, scale=1, mobile=False, dark=False):
        self.browser, self.errors, self.requests = browser, [], []
        self.expected = []  # pieces of console errors that a test provokes
        self.context = context
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        browser.pages[self.session] = self
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile)
        if mobile:
            self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        if url:
            self.goto(url)

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def event(self, method, params):
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(" ".join(str(each.get("value", "")) for each in params["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def close(self):
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)

    # ---- Looking ----

    def goto(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def js(self, expression):
        """The value of an expression (a promise is waited for)."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise Failed(f"{expression[:200]}: {details.get('exception', {}).get('description', details['text'])}")
        return result["result"].get("value")

    def wait(self, condition, seconds=PATIENCE):
        """Until the expression is true; its value."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = self.js(condition)
            except Failed:
                value = None  # the document is changing
            if value or value == {}:  # an element comes over as {}
                return value
            if time.monotonic() > deadline:
                raise Failed(f"waited {seconds} s for {condition}; the page shows: {self.text()[:1500]}; errors: {self.errors}")
            time.sleep(0.03)

    def text(self, selector="body"):
        return self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def screenshot(self, path, whole=False):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    # ---- Doing ----

    def place(self, selector):
        """The middle of an element, scrolled into view."""
        script = """(() => { const found = document.querySelector(%s); if (!found) return null;
            found.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});
            const box = found.getBoundingClientRect(); return box.width ? [box.x + box.width / 2, box.y + box.height / 2] : null; })()"""
        return self.wait(script % json.dumps(selector))

    def mouse(self, kind, x, y, buttons=0):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left" if buttons or kind != "mouseMoved" else "none",
                  buttons=buttons, clickCount=1)

    def click(self, selector):
        x, y = self.place(selector)
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, 1)
        self.mouse("mouseReleased", x, y)

    def tap(self, selector):
        x, y = self.place(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def write(self, text):
        """As a keyboard or an input method would, into what has the focus."""
        self.call("Input.insertText", text=text)

    def key(self, name, *modifiers):
        bits = sum(MODIFIERS[each] for each in modifiers)
        code = KEYS.get(name, ord(name.upper()) if len(name) == 1 else 0)
        text = {"Enter": "\r"}.get(name, name if len(name) == 1 else "")
        common = {"key": name, "code": f"Key{name.upper()}" if len(name) == 1 and name.isalpha() else name,
                  "windowsVirtualKeyCode": code, "modifiers": bits}
        typed = {"text": text} if text and not bits & ~MODIFIERS["Shift"] else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def drop(self, selector, *paths):
        x, y = self.place(selector)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)
            time.sleep(0.1)  # a hand is slower, and the browser asks the page between two of them

    def choose_file(self, selector, path):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def set(self, selector, value):
        """A form control's value, told like the user's own change."""
        self.js("""(() => { const control = document.querySelector(%s); control.value = %s;
            for (const name of ['input', 'change']) control.dispatchEvent(new Event(name, {bubbles: true})); })()"""
                % (json.dumps(selector), json.dumps(value)))

    def open_fold(self, title):
        self.js("""(() => { for (const fold of document.querySelectorAll('details.fold'))
            if (fold.querySelector('summary span').textContent === %s) fold.open = true; })()""" % json.dumps(title))
