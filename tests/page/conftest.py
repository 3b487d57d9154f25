"""Fixtures of the page's tests: one browser for all, and servers with the scripted worker or the demo
model, ended by their own process ids."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "api")]
from browser import Browser  # noqa: E402
from front import Front  # noqa: E402

DEMO = HERE.parents[1] / "deploy/demo_model/files"


def pytest_addoption(parser):
    parser.addoption("--latentd", required=True, help="path of the program under test")


@pytest.fixture(scope="session")
def latentd(request):
    return str(pathlib.Path(request.config.getoption("--latentd")).resolve())


@pytest.fixture(scope="session")
def browser():
    running = Browser()
    yield running
    running.close()


@pytest.fixture
def serve(latentd, tmp_path):
    """serve(script, *flags) starts a front with the scripted worker on tmp_path."""
    running = []

    def start(script="", *flags, **options):
        running.append(Front(latentd, tmp_path, script, *flags, **options))
        return running[-1]

    yield start
    for front in running:
        front.stop()


@pytest.fixture(scope="session")
def demo(latentd, tmp_path_factory):
    """A server that really paints, shared by the tests that look at pixels."""
    front = Front(latentd, tmp_path_factory.mktemp("demo"), None, "--model", str(DEMO / "demo.safetensors"),
                  "--adapter-dir", str(DEMO / "adapters"), "--embedding-dir", str(DEMO / "embeddings"))
    yield front
    front.stop()


@pytest.fixture
def visit(browser, serve):
    """visit(front, ...) opens the page as a new person; no page may leave an error in its console, or ask another
    host for anything.
    They are closed before the servers end (`serve`), whose end would be an error of theirs."""
    pages = []

    def go(front, path="/", ready=True, **options):
        page = browser.page(f"http://127.0.0.1:{front.port}{path}", **options)
        page.origin, page.elsewhere = f"http://127.0.0.1:{front.port}/", []
        pages.append(page)
        if ready:
            page.wait("document.querySelectorAll('#sizes .size').length > 0")
        return page

    yield go
    for page in pages:
        wrong = [text for text in page.errors if not any(known in text for known in page.expected)]
        page.close()
        assert not wrong, wrong
        elsewhere = [url for url in page.requests if not url.startswith((page.origin, "data:", "blob:"))]
        assert elsewhere == page.elsewhere
