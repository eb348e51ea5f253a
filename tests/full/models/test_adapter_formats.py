"""The claims of tests/tools/test_adapter.py for all other families."""

import pytest

from tests.support.families import FAMILIES
from tests.tools.test_adapter import *  # noqa: F403


@pytest.fixture(scope="module", params=[name for name in FAMILIES if name != "wan-2.1"])
def family(request):
    return FAMILIES[request.param]
