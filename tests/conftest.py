"""Settings for all tests, and the browser that some of them drive."""

import os
import shutil
from collections.abc import Iterator

import mpmath
import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

# Two shared cores: a property may be slow at one moment without anything being wrong. CI puts the same questions every time,
# everybody else new ones.
settings.register_profile("kexue", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("kexue")
# For mutation testing, which runs the tests of a function once for each of its mutants.
settings.register_profile("mutation", deadline=None, max_examples=5, derandomize=True, database=None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``gpu`` need CUDA, or Apple's mps where ``gpu(mps=True)`` says that it will do."""
    marker = item.get_closest_marker("gpu")
    if marker is None:
        return
    import torch

    if not (torch.cuda.is_available() or (marker.kwargs.get("mps") and torch.backends.mps.is_available())):
        pytest.skip("no accelerator (cuda or mps)" if marker.kwargs.get("mps") else "no CUDA device")


@pytest.fixture(autouse=True)
def precision_stays() -> Iterator[None]:
    """mpmath has one precision for the whole process, and a test that leaves another behind fails here, not in a later one."""
    yield
    left, mpmath.mp.prec = mpmath.mp.prec, 53
    assert left == 53


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, as found on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.fail("The browser tests need Chromium: `apt-get install chromium`, or CHROMIUM=/path/to/a/chromium")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
