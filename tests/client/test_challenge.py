"""WWW-Authenticate as servers send it (C45)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_http.client._challenge import Challenge, challenges, parameters_of, quoted


def basic(**parameters: str) -> Challenge:
    return Challenge("basic", parameters)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], [], id="no field"),
        pytest.param(["", " , ,\t,"], [], id="empty elements"),
        pytest.param(["Basic"], [basic()], id="a scheme alone"),
        pytest.param(['Basic realm="a"'], [basic(realm="a")], id="one parameter"),
        pytest.param(['BASIC Realm="a"'], [basic(realm="a")], id="case says nothing"),
        pytest.param(["Basic realm=a"], [basic(realm="a")], id="a token for a value"),
        pytest.param(['Basic realm = \t"a"'], [basic(realm="a")], id="space round the equals sign"),
        pytest.param(['Basic   realm="a" ,b=c'], [basic(realm="a", b="c")], id="space round the comma"),
        pytest.param(['Basic , realm="a"'], [basic(realm="a")], id="a comma behind the scheme"),
        pytest.param(['Basic realm="a, Digest b=c"'], [basic(realm="a, Digest b=c")], id="comma in a string"),
        pytest.param([r'Basic realm="a \"b\" \\ \c"'], [basic(realm='a "b" \\ c')], id="escapes"),
        pytest.param(['Basic realm=""'], [basic(realm="")], id="an empty string"),
        pytest.param(['Basic realm="caf\xe9"'], [basic(realm="caf\xe9")], id="beyond ASCII"),
        pytest.param(["Negotiate YII+/-._~=="], [Challenge("negotiate", {}, "YII+/-._~==")], id="token68"),
        pytest.param(["NTLM"], [Challenge("ntlm")], id="the first step of NTLM"),
        pytest.param(
            ["Basic abc="], [Challenge("basic", {}, "abc=")], id="a token68 with one sign at its end"
        ),
        pytest.param(
            ['Basic realm="a", charset="UTF-8", Negotiate, Bearer realm="b",NTLM aGk='],
            [
                basic(realm="a", charset="UTF-8"),
                Challenge("negotiate"),
                Challenge("bearer", {"realm": "b"}),
                Challenge("ntlm", {}, "aGk="),
            ],
            id="many in one line",
        ),
        pytest.param(
            ["Negotiate", 'Basic realm="a"'], [Challenge("negotiate"), basic(realm="a")], id="many lines"
        ),
        pytest.param(['Basic realm="a"', "b=c"], [basic(realm="a", b="c")], id="one over two lines"),
    ],
)
def test_a_well_formed_list_is_read(values: list[str], expected: list[Challenge]) -> None:
    """C45: the server says what it accepts (RFC 9110 §11.6.1)."""
    assert challenges(values) == expected


OTHER = Challenge("ntlm")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(['realm="a", NTLM'], [OTHER], id="a parameter without a scheme"),
        pytest.param(['Basic realm="a", realm="b", NTLM'], [OTHER], id="a repeated parameter"),
        pytest.param(['Basic realm="a", REALM="b", NTLM'], [OTHER], id="repeated in another case"),
        pytest.param(['Basic abc==, realm="a", NTLM'], [OTHER], id="token68 and a parameter"),
        pytest.param(['Basic realm="a" b=c, NTLM'], [OTHER], id="no comma between parameters"),
        pytest.param(['Basic realm="a"b, NTLM'], [OTHER], id="more behind a string"),
        pytest.param(['Basic realm="a", @, c=d, NTLM'], [OTHER], id="an element that is nothing"),
        pytest.param(['NTLM, Basic realm="a, b=c'], [OTHER], id="a string without an end"),
        pytest.param(['Basic realm="a', "NTLM"], [OTHER], id="a string does not go on in the next line"),
        pytest.param(["Basic a b, NTLM"], [OTHER], id="three words"),
        pytest.param(["NTLM, Basic ä=c"], [OTHER], id="a name that is no token"),
        pytest.param(["Basic realm=a/b=c, NTLM"], [OTHER], id="a value that wants quotes"),
    ],
)
def test_a_malformed_challenge_is_left_out_whole_and_the_others_stay(
    values: list[str], expected: list[Challenge]
) -> None:
    assert challenges(values) == expected


@given(st.lists(st.text()))
def test_any_strings_end_in_challenges(values: list[str]) -> None:
    for challenge in challenges(values):
        assert challenge.scheme == challenge.scheme.lower() != ""
        assert challenge.token68 is None or not challenge.parameters


@given(st.lists(st.text(alphabet='aB=", \t\\/;')))
def test_strings_of_what_matters_end_in_challenges(values: list[str]) -> None:
    """Nothing is made up: each word that is found stood there."""
    text = ", ".join(values).lower()
    for challenge in challenges(values):
        assert challenge.scheme in text
        assert all(name in text and name.strip("ab") == "" for name in challenge.parameters)
    assert all(name in text for name in parameters_of(text))


WORDS = st.text(alphabet="abcXYZ019-._~!#$%&'*+^`|", min_size=1)
LATIN_1 = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"))
PARAMETERS = st.dictionaries(WORDS.map(str.lower), LATIN_1, min_size=1)
CHALLENGES = st.builds(Challenge, WORDS.map(str.lower), PARAMETERS)


@given(st.lists(CHALLENGES))
def test_what_is_written_is_read_back(given_ones: list[Challenge]) -> None:
    lines = [
        f"{one.scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in one.parameters.items())
        for one in given_ones
    ]
    assert challenges(lines) == given_ones
    assert challenges([", ".join(lines)]) == given_ones


@pytest.mark.parametrize(
    "text", ['"\\' * 200_000, '"' * 200_001, "a=" * 200_000, "a " * 200_000, ' "a' * 200_001, "," * 400_000]
)
def test_a_hostile_value_takes_no_more_than_linear_time(text: str) -> None:
    """Where a regex went back at each quote, the first of these would take some minutes."""
    assert len(challenges([text, "Basic " + text])) <= 2


def test_parameters_without_a_scheme_are_read_and_the_malformed_left_out() -> None:
    """RFC 9110 §11.6.3: Authentication-Info has no scheme."""
    read = parameters_of('nextnonce="a, b", QOP=auth, qop=other, broken, x=, nc = 00000001')
    assert read == {"nextnonce": "a, b", "qop": "auth", "nc": "00000001"}
    assert parameters_of('a=b, c="d') == {"a": "b"}
    assert parameters_of("") == {}
