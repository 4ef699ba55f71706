"""The house rules for text: no traces of a machine, no unfinished work, no prose that outlived its code.

Each rule is a function from text to complaints and is proven able to complain. CONTRIBUTING.md gives the
reasons; tests/test_async_house.py has the rules for code. Source is read with `ast` and `tokenize`; nothing
is run.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import io
import keyword
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "trio_http"


def project_files() -> list[Path]:
    """The files that are or would be tracked; in a tree without git, all but the hidden folders'."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True, text=True,
        ).stdout.split("\0")  # fmt: skip
        paths = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        shown = (path for path in ROOT.rglob("*") if "__pycache__" not in path.parts)
        paths = [
            path
            for path in shown
            if not any(part.startswith(".") for part in path.relative_to(ROOT).parent.parts)
            or ".ci" in path.parts
        ]
    return sorted(path for path in paths if path.is_file())


def texts(*suffixes: str) -> Iterator[tuple[str, str]]:
    for path in project_files():
        if suffixes and path.suffix not in suffixes:
            continue
        try:
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # not text, so nothing that a person reads


def package_sources() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


# ---------------------------------------------------------------- text: machines, registries, unfinished work

# A folder of somebody's machine. A path that follows a host, a dot or a colon is part of a URL or a relative
# path, not one of these.
MACHINE_PATH = re.compile(r"(?<![\w.:/*~\-])/(?:home|root|Users|work|workspace|mnt|opt|tmp)/[\w.\-]+")
REGISTRY_HOST = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io|deb\.debian\.org|index[-]url)"
)


def machine_traces(text: str) -> list[str]:
    """Paths of a developer's machine, and hosts of package registries."""
    found = [match.group() for pattern in (MACHINE_PATH, REGISTRY_HOST) for match in pattern.finditer(text)]
    return found + [place for place in (str(ROOT), sys.prefix) if len(place) > 4 and place in text]


UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")


def unfinished(source: str) -> list[str]:
    """Marks of work left undone, in comments and docstrings."""
    if not UNFINISHED.search(source):  # tokens take a hundred times as long
        return []
    return [f"{line}: {text.strip()}" for line, text in prose(source) if UNFINISHED.search(text)]


# ------------------------------------------------------------------------------ prose: does it match the code


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.lineno, first.value.value


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Every comment and docstring, with the line on which it starts."""
    yield from docstrings(ast.parse(source))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def names_in_code(source: str) -> set[str]:
    """Identifiers of the code proper, and strings that are one identifier (`__slots__`, `getattr`)."""
    tree = ast.parse(source)
    names = {
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.NAME
    }
    documentation = {text for _, text in docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in documentation:
            names.update(re.findall(r"\A[A-Za-z_]\w*\Z", node.value))
    return names


BORROWED_FROM = """
    trio trio.abc trio.lowlevel trio.socket trio.testing
    collections.abc errno select socket ssl attrs h11 yarl
""".split()


@cache
def borrowed_names() -> frozenset[str]:
    """Names that our prose may use without our code doing so: Python's, Trio's, and our neighbours'."""
    names = set(dir(builtins)) | set(keyword.kwlist) | set(keyword.softkwlist) | set(sys.stdlib_module_names)
    for name in BORROWED_FROM:
        names.update(name.split("."))
        module = importlib.import_module(name)
        for attribute in dir(module):
            names.add(attribute)
            value = getattr(module, attribute)
            if isinstance(value, type):
                names.update(dir(value))
    return frozenset(names)


# Words of the wire and of other systems that look like Python. Each is here because a sentence needs it.
OTHER_WORDS = frozenset(
    {
        "close_notify",  # the TLS alert
        "trio_http",
        "pytest_trio",
    }
)

# `snake_case`, `_private`, `CamelCase`, `CONSTANT_NAME`, `dotted.name`, `call()`: what nobody writes for
# anything but code.
CODE_NAME = re.compile(r"(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?P<call>\(\))?")


def looks_like_code(quoted: str) -> bool:
    match = CODE_NAME.fullmatch(quoted)
    if match is None:
        return False
    name = match["name"]
    if match["call"] or "_" in name.strip("_") or name.startswith("_"):
        return True
    if "." in name:
        return not re.search(r"\.(?:md|py|toml|txt|rst|org|com|net|localhost)$", name)
    return bool(re.fullmatch(r"(?:[A-Z]+[a-z0-9]+){2,}", name))


def stale_names(source: str, known: set[str] | frozenset[str]) -> list[str]:
    """Backticked names in comments and docstrings which are no longer anywhere in the code.

    `known` are the names that occur as code in the package. Comments that outlive their code are how a
    well-explained program turns into a misleading one; this is the guard.
    """
    borrowed = borrowed_names()
    found = []
    for line, text in prose(source):
        for quoted in re.findall(r"`+([^`\n]+)`+", text):
            if not looks_like_code(quoted):
                continue
            parts = quoted.removesuffix("()").split(".")
            if all(part in known or part in borrowed or part in OTHER_WORDS for part in parts):
                continue
            found.append(f"{line}: `{quoted}`")
    return found


# -------------------------------------------------------------------------------------------------- documents


def broken_links(path: Path, text: str) -> list[str]:
    """Relative links of a Markdown page that lead nowhere."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", plain)
    return [
        target
        for target in targets
        if not re.match(r"[a-z]+:|#", target) and not (path.parent / target.split("#")[0]).exists()
    ]


# --------------------------------------------------------------------------------------- the project as it is


def test_no_file_names_a_developers_machine_or_a_package_registry() -> None:
    found = {name: traces for name, text in texts() if (traces := machine_traces(text))}
    assert found == {}


def test_no_comment_leaves_work_for_later() -> None:
    found = {name: marks for name, text in texts(".py") if (marks := unfinished(text))}
    assert found == {}


def test_names_in_comments_and_docstrings_still_exist_as_code() -> None:
    sources = package_sources()
    known = set().union(*map(names_in_code, sources.values()))
    found = {name: stale for name, source in sources.items() if (stale := stale_names(source, known))}
    assert found == {}


def test_links_between_the_documents_lead_somewhere() -> None:
    pages = dict(texts(".md"))
    assert "README.md" in pages
    found = {name: links for name, text in pages.items() if (links := broken_links(ROOT / name, text))}
    assert found == {}


# ------------------------------------------------------------------------------------ the checks can all fail


@pytest.mark.parametrize(
    "text",
    [
        "see /ho" + "me/somebody/notes.txt",
        'config = "/wo' + 'rk/main"',
        "made with --index-" + "url there",
        "from https://py" + "pi.org/simple",
        f"{ROOT}/trio_http",
    ],
)
def test_a_trace_of_a_machine_is_told(text: str) -> None:
    assert machine_traces(text)


@pytest.mark.parametrize(
    "text", ["http://example.org/home/page", "docs/work/plan", "~/opt/thing", "GET /hello/you HTTP/1.1"]
)
def test_an_innocent_path_is_not_told(text: str) -> None:
    assert machine_traces(text) == []


@pytest.mark.parametrize(
    "source", ["x = 1  # TO" + "DO: more", '"""FIX' + 'ME."""', "def f():\n    '''A HA" + "CK.'''\n"]
)
def test_unfinished_work_is_told(source: str) -> None:
    assert unfinished(source)
    assert unfinished("todo = 'a list'  # what is todo is in lower case") == []


@pytest.mark.parametrize(
    "source",
    [
        "x = 1  # before `_start` moves\n",
        '"""See `Buffer.compress()`."""\n',
        "def f():\n    '''Uses ``keep_alive_disabled``.'''\n",
        "x = 1  # a `SortedDict` with a counter\n",
        "x = 1  # `gone()` said so\n",
        '"""Only `_start` itself, in the one docstring that names it."""\n',
    ],
)
def test_a_name_that_outlived_its_code_is_told(source: str) -> None:
    assert stale_names(source, names_in_code(source))


def test_a_name_that_lives_is_not_told_whether_it_is_ours_or_borrowed() -> None:
    source = """
class Buffer:
    '''Has `take_line`, unlike `trio.abc.Stream`; `Content-Length`, `b"x"`, `1*DIGIT` are no names.'''
    __slots__ = ("_start_at",)
    def take_line(self):
        # `_start_at` and `Buffer.take_line()`, as `wait_readable` and `ssl.SSLError`
        return self.rest
"""
    assert stale_names(source, names_in_code(source)) == []


def test_a_link_that_leads_nowhere_is_told() -> None:
    here = ROOT / "README.md"
    assert broken_links(here, "[there](no/such/page.md)") == ["no/such/page.md"]
    assert (
        broken_links(
            here, "[a](pyproject.toml#top) [b](https://example.org/) [c](#here)\n```\nx[0](1)\n```\n"
        )
        == []
    )
