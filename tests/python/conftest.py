from __future__ import annotations

from collections.abc import Iterator

import pytest

import convpool
from convpool import _core

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # a wheel's own check runs test_minimal.py with pytest alone
    pass
else:
    # A first call may have to wait for threads or another process's, so there is no deadline for one example.
    common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("default", max_examples=300, **common)
    settings.register_profile("thorough", max_examples=5000, **common)  # pytest --hypothesis-profile=thorough
    settings.load_profile("default")


@pytest.fixture(params=convpool.available_isas(), scope="module")
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this machine has, in force while the test runs."""
    before = convpool.isa()
    _core.force_isa(request.param)
    assert convpool.isa() == request.param
    yield request.param
    _core.force_isa(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Gives back the number of threads after a test that sets it."""
    before = convpool.get_num_threads()
    yield
    convpool.set_num_threads(before)
