"""One thread for every test, and networks of other libraries where they are installed."""

import importlib
import importlib.util
import os
import signal
import sys
import warnings
from types import SimpleNamespace

# before torch is imported: two busy processes slow each other down many times over
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# commands would use the cache of whoever runs the tests
os.environ["VTCAV_CACHE"] = "off"
# what a script starts in the background ignores Ctrl-C, as would every command that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.helpers.torchvision_ops import define_missing_operators

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def figures_are_closed():
    """pyplot keeps every figure that a test draws, and warns of the twenty-first."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")


@pytest.fixture(scope="session")
def libraries():
    """`torchvision` (its models) and `timm`; the tests that need them skip where one is absent."""
    for name in ("torchvision", "timm"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        define_missing_operators()
        return SimpleNamespace(
            torchvision=importlib.import_module("torchvision.models"),
            timm=importlib.import_module("timm"),
        )


# a busy machine is no reason to fail
settings.register_profile("vtcav", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vtcav")
