"""What every test may count on.

Tests are deterministic: time is `autojump_clock` or `MockClock`, Hypothesis repeats the same examples on each
run, and what needs a real socket or a real program is marked ``interop``. To let Hypothesis search further
than the examples of every day, set ``HYPOTHESIS_PROFILE=explore``.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable

import hypothesis
import pytest

# deadline=None: two noisy shared cores make any time limit on one example a coin toss; linear time is proven
# by counting.
hypothesis.settings.register_profile("everyday", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=20_000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "everyday"))


def pytest_configure(config: pytest.Config) -> None:
    """Have Ctrl-C work, and write what sweeps have tried to the file that ``SWEEP_REPORT`` names.

    `.ci/run` compares that with the docs. It is named by the environment, since the command is the README's
    own; and taken out of it, since some tests start another pytest.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts its background jobs so, and they hand it on. Tests that interrupt themselves, or a
        # program that they have started, would wait for ever.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if (report := os.environ.pop("SWEEP_REPORT", None)) is not None:
        config.option.sweep_report = report


@pytest.fixture
def program() -> Callable[[str], str]:
    """A function that gives the path of an installed program, and skips the test where it is not installed.

    A fresh machine has none of the peers, and its user is owed a green run of everything else; `.ci/run`
    installs them. With ``REQUIRE_PROGRAMS=1``, which `.ci/run` sets once it has done so, an absent program
    fails the test instead.
    """

    def find(name: str) -> str:
        path = shutil.which(name)
        # Debian keeps servers such as nginx where an ordinary user's PATH does not look.
        path = path or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if path is not None:
            return path
        if os.environ.get("REQUIRE_PROGRAMS") == "1":
            pytest.fail(f"{name} should have been installed for this run, and is not", pytrace=False)
        pytest.skip(f"{name} is not installed (Debian: apt-get install {name})")

    return find
