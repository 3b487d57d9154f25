"""Fixtures of the API tests: the program, and fronts that are stopped at the end of each test."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from front import Front  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--latentd", required=True, help="path of the program under test")


@pytest.fixture(scope="session")
def latentd(request):
    return str(pathlib.Path(request.config.getoption("--latentd")).resolve())


@pytest.fixture
def serve(latentd, tmp_path):
    """serve(script, *flags) starts a front on tmp_path."""
    running = []

    def start(script="", *flags, folder=tmp_path, **options):
        front = Front(latentd, folder, script, *flags, **options)
        running.append(front)
        return front

    yield start
    for front in running:
        front.stop()


@pytest.fixture(scope="module")
def front(latentd, tmp_path_factory):
    """One front for all tests of a file that leave it as they found it."""
    shared = Front(latentd, tmp_path_factory.mktemp("front"), "")
    yield shared
    assert shared.stop() == 0
