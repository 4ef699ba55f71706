"""Forms with files. What is sent is read back by Python's `email` package, which knows nothing of ours."""

from __future__ import annotations

import email.message
import email.parser
import email.policy
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client._contents import LARGE, PIECE, generated, open_files, opened, read_all, sent
from trio_http import InvalidRequest
from trio_http.client._content import Sized
from trio_http.client._content_source import Content, ContentReader
from trio_http.client._multipart import Multipart
from trio_http.testing import cancel_at_every_step


class Part:
    """One part as the judge sees it; the names in its disposition are told apart here."""

    def __init__(self, message: email.message.Message) -> None:
        # The judge takes a header for ASCII, and keeps other bytes aside.
        self.headers = [
            (name.lower(), value.encode("ascii", "surrogateescape").decode())
            for name, value in message.raw_items()
        ]
        match = re.fullmatch(
            r'form-data; name="([^"]*)"(?:; filename="([^"]*)")?', dict(self.headers)["content-disposition"]
        )
        assert match is not None
        self.name, self.filename = match.groups()
        self.type = dict(self.headers).get("content-type")
        self.content = message.get_payload(decode=True)

    def __eq__(self, other: object) -> bool:
        return (self.name, self.filename, self.type, self.content) == other

    def __repr__(self) -> str:
        return repr((self.name, self.filename, self.type, self.content))


def judged(form: Multipart, data: bytes) -> list[Part]:
    assert form.content_type is not None
    head = b"Content-Type: " + form.content_type.encode("ascii") + b"\r\n\r\n"
    message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head + data)
    assert message.defects == []
    assert message.get_content_type() == "multipart/form-data"
    assert (message.preamble, message.epilogue) == (None, "")
    parts: Any = message.get_payload()
    return [Part(each) for each in parts]


async def read_back(form: Multipart) -> list[Part]:
    """Send a form; see that its length is true; return its parts."""
    data, length = await sent(form)
    assert length in (None, len(data))
    return judged(form, data)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(LARGE)
    return path


async def test_a_form_is_written_as_the_rfc_has_it() -> None:
    form = Multipart({"field": "value"}, {"file": ("a.txt", b"content")}, boundary="frontier")
    assert form.content_type == "multipart/form-data; boundary=frontier"
    assert await sent(form) == (
        expected := b"--frontier\r\n"
        b'Content-Disposition: form-data; name="field"\r\n'
        b"\r\n"
        b"value\r\n"
        b"--frontier\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        b"Content-Type: text/plain\r\n"
        b"\r\n"
        b"content\r\n"
        b"--frontier--\r\n",
        len(expected),
    )


async def test_fields_of_every_kind_are_read_back_in_order() -> None:
    form = Multipart(
        {
            "text": "grüße",
            "bytes": b"\x00\xff\r\n",
            "number": 12,
            "float": 1.5,
            "yes": True,
            "no": False,
            "list": ["a", 2],
            "empty": "",
            "none of them": [],
        }
    )
    assert [(part.name, part.content, part.filename, part.type) for part in await read_back(form)] == [
        ("text", "grüße".encode(), None, None),
        ("bytes", b"\x00\xff\r\n", None, None),
        ("number", b"12", None, None),
        ("float", b"1.5", None, None),
        ("yes", b"true", None, None),
        ("no", b"false", None, None),
        ("list", b"a", None, None),
        ("list", b"2", None, None),
        ("empty", b"", None, None),
    ]


async def test_pairs_keep_their_order_and_their_repeats() -> None:
    form = Multipart([("a", "1"), ("b", "2"), ("a", "3")], [("f", ("x", b"4")), ("f", ("y", b"5"))])
    assert [(part.name, part.content) for part in await read_back(form)] == [
        ("a", b"1"),
        ("b", b"2"),
        ("a", b"3"),
        ("f", b"4"),
        ("f", b"5"),
    ]


async def test_files_are_streamed_piece_by_piece_with_an_exact_length(picture: Path) -> None:
    """C30: multipart that streams files, with an exact length."""
    with opened(picture) as file:
        form = Multipart({"a": "b"}, {"path": picture, "file": file, "memory": io.BytesIO(LARGE)})
        assert form.repeatable
        assert form.whole is None
        for _ in range(2):
            async with await form.open() as reader:
                pieces = await read_all(reader)
                assert sum(map(len, pieces)) == reader.length
            assert max(map(len, pieces)) == PIECE
            assert judged(form, b"".join(pieces)) == [
                ("a", None, None, b"b"),
                ("path", "picture.png", "image/png", LARGE),
                ("file", "picture.png", "image/png", LARGE),
                ("memory", "upload", "application/octet-stream", LARGE),
            ]
        assert not file.closed
    assert open_files(picture) == []


async def test_a_file_that_is_in_a_form_twice_is_sent_twice(picture: Path) -> None:
    with opened(picture) as file:
        assert [part.content for part in await read_back(Multipart(files={"a": [file, file]}))] == [
            LARGE,
            LARGE,
        ]


async def test_a_file_of_a_path_is_closed_as_soon_as_it_was_read(tmp_path: Path, picture: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    async with await Multipart(files=[("a", other), ("b", picture)]).open() as reader:
        assert len(open_files(other)) == len(open_files(picture)) == 1
        while b"picture.png" not in await reader.next_piece():
            pass
        assert (len(open_files(other)), len(open_files(picture))) == (0, 1)
    assert open_files(picture) == []


async def test_a_part_of_unknown_length_makes_the_form_one_of_unknown_length() -> None:
    form = Multipart(files={"a": ("a", generated(b"x", b"y")), "b": ("b", b"z")})
    assert not form.repeatable
    data, length = await sent(form)
    assert length is None
    assert judged(form, data) == [
        ("a", "a", "application/octet-stream", b"xy"),
        ("b", "b", "application/octet-stream", b"z"),
    ]
    with pytest.raises(InvalidRequest, match="was sent before"):
        await form.open()


async def test_a_stream_whose_length_is_said_makes_a_form_of_known_length() -> None:
    form = Multipart(files={"a": ("a", Sized(generated(b"x", b"y"), 2))})
    data, length = await sent(form)
    assert length == len(data)


async def test_a_form_without_files_to_read_is_there_as_a_whole() -> None:
    form = Multipart({"a": "b"}, {"c": ("d", LARGE)})
    assert form.whole == (await sent(form))[0]
    async with await form.open() as reader:
        assert max(map(len, await read_all(reader))) == PIECE


async def test_an_empty_form_is_its_last_boundary_as_browsers_send_it() -> None:
    form = Multipart(boundary="x")
    assert await sent(form) == (b"--x--\r\n", 7)


@pytest.mark.parametrize(
    ("file", "part"),
    [
        (b"x", ("f", "upload", "application/octet-stream", b"x")),
        ([b"x", b"y"], ("f", "upload", "application/octet-stream", b"x")),
        (("a.html", b"x"), ("f", "a.html", "text/html", b"x")),
        (("a.html", "grüße"), ("f", "a.html", "text/html", "grüße".encode())),
        (("a.tar.gz", b"x"), ("f", "a.tar.gz", "application/gzip", b"x")),
        (("a.txt.bz2", b"x"), ("f", "a.txt.bz2", "application/octet-stream", b"x")),
        (("data:,a", b"x"), ("f", "data:,a", "application/octet-stream", b"x")),
        (("", b"x"), ("f", "", "application/octet-stream", b"x")),
        ((None, b"x"), ("f", None, None, b"x")),
        ((None, b"{}", "application/json"), ("f", None, "application/json", b"{}")),
        (("a.html", b"x", "image/x; v=1"), ("f", "a.html", "image/x; v=1", b"x")),
        (("a.html", b"x", None, {"content-type": "a/b"}), ("f", "a.html", "a/b", b"x")),
        (("a.html", b"x", "a/b", {"X-More": "c"}), ("f", "a.html", "a/b", b"x")),
    ],
)
async def test_a_file_may_come_with_name_type_and_header_fields(file: Any, part: tuple[Any, ...]) -> None:
    parts = await read_back(Multipart(files={"f": file}))
    assert parts[0] == part
    assert ("x-more" in dict(parts[0].headers)) == (
        isinstance(file, tuple) and len(file) == 4 and file[2] == "a/b"
    )


async def test_a_standard_stream_and_a_bare_descriptor_have_no_name(picture: Path) -> None:
    class Named(io.BytesIO):
        def __init__(self, name: object) -> None:
            super().__init__(b"x")
            self.name = name

    files = [Named("<stdin>"), Named(3), Named("/there/here.txt"), Named("")]
    assert [part.filename for part in await read_back(Multipart(files={"f": files}))] == [
        "upload",
        "upload",
        "here.txt",
        "upload",
    ]


async def test_content_of_the_callers_own_says_its_type() -> None:
    class Own(Content):
        repeatable = True
        content_type = "text/own"

        async def open(self) -> ContentReader:
            return await Multipart(boundary="own").open()

    assert await read_back(Multipart(files={"f": ("f.txt", Own())})) == [
        ("f", "f.txt", "text/own", b"--own--\r\n")
    ]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ('a"b', b"a%22b"),
        ("a\r\nb", b"a%0D%0Ab"),
        ("a\rb\nc", b"a%0Db%0Ac"),
        ("a%22b", b"a%22b"),
        ("a\\b;c=d", b"a\\b;c=d"),
        ("grüße €", "grüße €".encode()),
        ("a\tb", b"a\tb"),
        ("", b""),
    ],
)
async def test_names_are_written_as_browsers_write_them(name: str, written: bytes) -> None:
    data, _ = await sent(Multipart({name: "x"}, {name: (name, b"y")}))
    lines = [line for line in data.split(b"\r\n") if line.startswith(b"Content-Disposition")]
    assert lines == [
        b'Content-Disposition: form-data; name="%s"' % written,
        b'Content-Disposition: form-data; name="%s"; filename="%s"' % (written, written),
    ]


# --------------------------------------------------------------------------------------------- the boundary


def test_a_boundary_is_random() -> None:
    boundaries = {Multipart().boundary for _ in range(100)}
    assert len(boundaries) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in boundaries)


@pytest.mark.parametrize("boundary", ["a", "a" * 70, "-'+_.", "with space", "a:b", "(),/=?", "_-_"])
async def test_a_boundary_may_be_given(boundary: str) -> None:
    form = Multipart({"a": "b"}, boundary=boundary)
    assert form.boundary == boundary
    assert await read_back(form) == [("a", None, None, b"b")]


@pytest.mark.parametrize("boundary", ["", "a" * 71, "ends ", "a\r\nb", 'a"b', "grüße", "a\n", "a;b"])
def test_a_boundary_that_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(InvalidRequest, match=r"malformed boundary .*1-70 characters of RFC 2046"):
        Multipart(boundary=boundary)


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("data", "files", "what"),
    [
        ("a=b", None, "data is of type str, expected a mapping or pairs"),
        (12, None, "data is of type int, expected a mapping or pairs"),
        ([("a", "b", "c")], None, "data has the entry .*expected a pair of a str and its value"),
        ({1: "a"}, None, "data has the entry .*expected a pair of a str"),
        ({"a": None}, None, "field 'a' of a form is None, expected a str, bytes, a number"),
        ({"a": {"b": "c"}}, None, "field 'a' of a form is {'b': 'c'}, expected a str"),
        ({"a": [b"x", None]}, None, "field 'a' of a form is None"),
        (
            {"a": io.BytesIO()},
            None,
            "field 'a' of a form is <_io.BytesIO .*, expected a str.*files go into files=",
        ),
        ({"a": "\ud800"}, None, "field 'a' of a form cannot be encoded in UTF-8"),
        ({"\ud800": "a"}, None, "the name .* of a form cannot be encoded in UTF-8"),
        ({"a\0b": "c"}, None, "a form has a name with control characters"),
        (None, b"abc", "files is of type bytes, expected a mapping or pairs"),
        (None, {"a": "text"}, "file 'a' of a form: content is a str, expected bytes"),
        (None, {"a": ("b",)}, "file 'a' of a form is a tuple of 1, expected"),
        (None, {"a": ("b", b"", None, None, 1)}, "file 'a' of a form is a tuple of 5"),
        (None, {"a": (1, b"")}, "file 'a' of a form has the filename 1, expected a str or None"),
        (None, {"a": ("b", 5)}, "file 'a' of a form: content is of type int"),
        (None, {"a": ("b", "\ud800")}, "file 'a' of a form: .*surrogates not allowed"),
        (None, {"a": ("\x01", b"")}, "a form has a name with control characters"),
        (None, {"a": ("b", b"", "x\r\ny")}, "file 'a' of a form: .*"),
        (None, {"a": ("b", b"", "€")}, "file 'a' of a form: .*"),
        (
            None,
            {"a": ("b", b"", None, {"x y": "z"})},
            "file 'a' of a form has header fields that cannot be sent",
        ),
        (
            None,
            {"a": ("b", b"", None, {"Content-Disposition": "z"})},
            "has a Content-Disposition, expected none",
        ),
        (None, {"a": ("b", b"", "c/d", {"Content-Type": "e/f"})}, "has two content types, expected one"),
        (None, {"a": io.StringIO("text")}, "file 'a' of a form: content is a text file"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_reason(data: Any, files: Any, what: str) -> None:
    with pytest.raises(InvalidRequest, match=what):
        Multipart(data, files)


async def test_a_file_that_is_absent_is_known_before_anything_is_sent(tmp_path: Path, picture: Path) -> None:
    form = Multipart(files=[("a", picture), ("b", tmp_path / "absent")])
    with pytest.raises(FileNotFoundError):
        await form.open()
    assert open_files(picture) == []


async def test_a_closed_form_gives_nothing(picture: Path) -> None:
    reader = await Multipart(files={"a": picture}).open()
    await reader.aclose()
    await reader.aclose()
    assert open_files(picture) == []
    with pytest.raises(trio.ClosedResourceError):
        await reader.next_piece()


# ---------------------------------------------------------------------------------------- cancels and chance


async def test_a_cancel_while_a_form_is_sent_leaves_nothing_open(tmp_path: Path) -> None:
    content = bytes(PIECE) + b"x"  # the judge is slow where there are many lines
    picture = trio.Path(tmp_path / "picture")
    await picture.write_bytes(content)
    other = trio.Path(tmp_path / "other")
    await other.write_bytes(b"other")
    inside = 0

    async def scenario() -> None:
        async def source() -> AsyncIterator[bytes]:
            nonlocal inside
            inside += 1
            try:
                yield b"a"
                await trio.lowlevel.checkpoint()
                yield b"b"
            finally:
                inside -= 1

        form = Multipart({"x": "y"}, [("a", other), ("b", picture), ("c", ("c", source())), ("d", other)])
        parts = await read_back(form)
        assert [part.content for part in parts] == [b"y", b"other", content, b"ab", b"other"]

    def check() -> None:
        assert inside == 0
        assert open_files(Path(other)) == open_files(Path(picture)) == []

    report = await cancel_at_every_step(scenario, check=check)
    places = {name for point in report.points for name in point.within}
    assert {"open", "next_piece", "aclose", "source"} <= places


# What a judge of MIME reads otherwise than a browser writes: backslashes, and spaces at the ends.
NAMES = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters='\\"%'), max_size=10)
CONTENTS = st.one_of(
    st.binary(max_size=40),
    # What is near a boundary, and near the ends of lines.
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"--b", b"x", b"\0"]), max_size=8).map(
        b"".join
    ),
)
SOURCES = st.sampled_from(["bytes", "memory", "sized", "unsized"])


@given(st.lists(st.tuples(NAMES, CONTENTS)), st.lists(st.tuples(NAMES, NAMES, CONTENTS, SOURCES)))
@settings(max_examples=60)
async def test_a_form_of_anything_is_read_back_and_as_long_as_it_says(
    fields: list[tuple[str, bytes]], files: list[tuple[str, str, bytes, str]]
) -> None:
    """C30: the length that is promised is that of the bytes that are sent."""

    def source(content: bytes, kind: str) -> Any:
        match kind:
            case "bytes":
                return content
            case "memory":
                return io.BytesIO(content)
            case "sized":
                return Sized(generated(content[:3], content[3:]), len(content))
            case _:
                return generated(content)

    form = Multipart(
        fields, [(name, (filename, source(content, kind))) for name, filename, content, kind in files]
    )
    data, length = await sent(form)
    if not fields and not files:
        assert data == f"--{form.boundary}--\r\n".encode("ascii")
        return
    if any(kind == "unsized" for *_, kind in files):
        assert length is None
    else:
        assert length == len(data)
    parts = judged(form, data)
    assert [(part.name, part.content) for part in parts] == fields + [
        (name, content) for name, _, content, _ in files
    ]
    assert [part.filename for part in parts[len(fields) :]] == [filename for _, filename, _, _ in files]
