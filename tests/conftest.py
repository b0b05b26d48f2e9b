"""Settings for all tests."""

import pytest
from hypothesis import settings

# Two shared cores: a property may be slow at one moment without anything being wrong.
settings.register_profile("kexue", deadline=None)
settings.load_profile("kexue")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``gpu`` need CUDA, or Apple's mps where ``gpu(mps=True)`` says that it will do."""
    marker = item.get_closest_marker("gpu")
    if marker is None:
        return
    import torch

    if not (torch.cuda.is_available() or (marker.kwargs.get("mps") and torch.backends.mps.is_available())):
        pytest.skip("no accelerator (cuda or mps)" if marker.kwargs.get("mps") else "no CUDA device")
