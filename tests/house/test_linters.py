"""What the house's own rules leave to the linters: mistakes are planted, and they must see them.

Without the linters (the extra ``lint``) these tests are skipped; `.ci/run` runs them where they are there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house._source import ROOT, with_a_mistake

RULES = re.compile(r"^rules=(ASYNC\d+(?:,ASYNC\d+)*)$", re.MULTILINE)


def flake8_async(path: Path) -> set[str]:
    """Return the rules that a file breaks, of those that `.ci/run` asks for."""
    pytest.importorskip("flake8_async", reason="flake8-async is not installed: see the extra `lint`")
    rules = RULES.findall((ROOT / ".ci" / "run").read_text("utf-8"))
    assert len(rules) == 1
    # In a process of its own: it keeps its options in a class.
    asked = [sys.executable, "-m", "flake8_async", f"--enable={rules[0]}", str(path)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    return set(re.findall(r"^[^\n]*:\d+:\d+: (ASYNC\d+)", done.stdout, re.MULTILINE))


def ruff(path: str, source: str) -> set[str]:
    """Return the rules that a text breaks, as our configuration has them for a file at ``path``."""
    pytest.importorskip("ruff", reason="ruff is not installed: see the extra `lint`")
    asked = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"]
    done = subprocess.run(
        [*asked, "--stdin-filename", path, "-"],
        cwd=ROOT, input=source, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return set(re.findall(r"^[^\n]*:\d+:\d+: ([A-Z]+\d+)", done.stdout, re.MULTILINE))


HANDLER = "import trio\n\n\nasync def f():\n    try:\n        await g()\n    {}\n"


@pytest.mark.parametrize(
    ("handler", "rule"),
    [
        ("except:\n        pass", "ASYNC103"),
        ("except BaseException:\n        log()", "ASYNC103"),
        ("except trio.Cancelled:\n        pass", "ASYNC103"),
        ("except (OSError, BaseException):\n        pass", "ASYNC103"),
        ("except* trio.Cancelled:\n        pass", "ASYNC103"),
        ("except BaseException:\n        if late:\n            raise", "ASYNC103"),
        ("except BaseException:\n        for each in errors:\n            raise", "ASYNC103"),
        ("except BaseException as exc:\n        raise OSError from exc", "ASYNC104"),
        ("except BaseException:\n        try: raise\n        except OSError: pass", "ASYNC103"),
        ("except BaseException:\n        return", "ASYNC104"),
    ],
)  # fmt: skip
def test_a_handler_that_does_not_pass_a_cancel_on_is_told(handler: str, rule: str, tmp_path: Path) -> None:
    path = tmp_path / "handler.py"
    path.write_text(HANDLER.format(handler), "utf-8")
    assert rule in flake8_async(path)


@pytest.mark.parametrize(
    "handler",
    [
        "except BaseException:\n        log()\n        raise",
        "except BaseException as exc:\n        if late:\n            raise exc\n        raise",
        "except OSError:\n        pass",
        "except trio.Cancelled:\n        raise\n    except BaseException:\n        pass",
    ],
)
def test_a_handler_that_passes_a_cancel_on_is_not_told(handler: str, tmp_path: Path) -> None:
    path = tmp_path / "handler.py"
    path.write_text(HANDLER.format(handler), "utf-8")
    assert flake8_async(path) == set()


@pytest.mark.parametrize(
    ("path", "right", "wrong", "rule"),
    [
        (
            "trio_http/client/_retry.py",
            "                self.budget.give_back()\n            raise\n",
            "                self.budget.give_back()\n",
            "ASYNC103",
        ),
        (
            "trio_http/client/_tls_settings.py",
            "            await transport.aclose_forcefully()\n            raise\n        if times is",
            "            await transport.aclose_forcefully()\n            raise OSError\n        if times is",
            "ASYNC104",
        ),
        ("trio_http/client/_race.py", "# noqa: BLE001, ASYNC103  # raised by", "# raised by", "ASYNC103"),
        (
            "trio_http/server/_linger.py",
            "    with trio.move_on_after(",
            "    with trio.move_on_at(5):\n        pass\n    with trio.move_on_after(",
            "ASYNC125",
        ),
    ],
)
def test_flake8_async_tells_mistakes_in_our_own_files(
    path: str, right: str, wrong: str, rule: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.py"
    copy.write_text((ROOT / path).read_text("utf-8"), "utf-8")
    assert flake8_async(copy) == set()
    copy.write_text(with_a_mistake(path, right, wrong), "utf-8")
    assert rule in flake8_async(copy)


@pytest.mark.parametrize("jump", ["return", "break", "continue"])
def test_a_jump_out_of_a_finally_is_told(jump: str) -> None:
    source = (
        f"def f():\n    for _ in g():\n        try:\n            g()\n        finally:\n            {jump}\n"
    )
    assert "B012" in ruff("trio_http/client/_new.py", source)
    assert "B012" in ruff("tests/client/test_new.py", source)


@pytest.mark.parametrize(
    ("path", "right", "wrong", "rule"),
    [
        (
            "trio_http/client/_pool.py",
            "        finally:  # they may raise a KeyboardInterrupt\n",
            "        finally:\n            return\n",
            "B012",
        ),
        (
            "trio_http/client/_retry.py",
            "                self.budget.give_back()\n            raise\n",
            "                self.budget.give_back()\n",
            "BLE001",
        ),
    ],
)
def test_ruff_tells_mistakes_in_our_own_files(path: str, right: str, wrong: str, rule: str) -> None:
    assert rule not in ruff(path, (ROOT / path).read_text("utf-8"))
    assert rule in ruff(path, with_a_mistake(path, right, wrong))
