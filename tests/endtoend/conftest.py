"""One local cloud with the deployed template, for all tests of this folder. They keep apart by the days they play on."""

import itertools

import pytest

from backscatter.demo import case2007
from backscatter.demo.audience import Audience
from backscatter.demo.deploy import deploy
from backscatter.demo.localcloud import LocalCloud


@pytest.fixture(scope="session")
def cloud():
    with LocalCloud() as cloud:
        yield cloud


@pytest.fixture(scope="session")
def stack(cloud):
    sizes = {"CaptureMegabytes": "4", "RangeMegabytes": "1"}
    return deploy(cloud, parameters={"HomeNetworks": f"{case2007.OURS}/32", **sizes})


@pytest.fixture(scope="session")
def audience(cloud, stack):
    return Audience(cloud, stack)


@pytest.fixture(scope="session")
def _days():
    # Coverage looks at the 24 hours before a finding: plays three days apart do not see each other.
    return itertools.count(0, 3 * case2007.DAY)


@pytest.fixture
def later(_days):
    """How long after March 2007 this test plays, ns."""
    return next(_days)
