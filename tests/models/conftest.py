"""The model family that the quick tier tests."""

import pytest

from tests.support.families import FAMILIES


@pytest.fixture(scope="module")
def family():
    return FAMILIES["wan-2.1"]
