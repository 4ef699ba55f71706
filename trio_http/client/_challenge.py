"""What a server wants to be shown: the challenges of WWW-Authenticate, taken apart (RFC 9110 §11).

The field is a list whose elements are lists themselves, by the same comma: in ``Basic realm="a", charset="u",
Bearer`` the second element continues the first challenge and the third begins another. An element says by
itself which of both it is, since a parameter has an equals sign behind its first word and a scheme has not.
So the field is cut at its commas (those outside of quoted strings) and read element by element; what was read
last is all the state there is.

The reader is total: whatever a server sends, it answers with the challenges that were well-formed, and leaves
out the others. One that has a malformed or a repeated parameter is left out whole, since it would otherwise
be answered as something that the server did not say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

_WORD: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 §5.6.2
# Possessive: no byte is looked at twice, however the string fails to end.
_QUOTED: Final = r'"(?:[^"\\]++|\\.)*+"'  # RFC 9110 §5.6.4
# token68 (RFC 9110 §11.2), which Bearer calls b64token (RFC 6750 §2.1).
TOKEN68: Final = re.compile(r"[0-9A-Za-z\-._~+/]+=*")

_STOP: Final = re.compile(r'[",]')
_QUOTED_STRING: Final = re.compile(_QUOTED, re.DOTALL)
_PARAMETER: Final = re.compile(rf"({_WORD})[ \t]*=[ \t]*(?:({_WORD})|({_QUOTED}))", re.DOTALL)
_SCHEME: Final = re.compile(rf"({_WORD})(?:[ \t]+(.+))?", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE: Final = re.compile(r'["\\]')

# How many elements of one field are looked at. A server needs about ten for each way in; with one for every
# second byte a head would take half a second. Arbitrary.
_MAX_ELEMENTS: Final = 1000


@attrs.frozen
class Challenge:
    """One challenge: a scheme by which the server lets somebody in, and what that scheme needs to know.

    Attributes:
      scheme: its name in lower case, such as "basic"; the case says nothing (RFC 9110 §11.1).
      parameters: values without their quotes and escapes, by name in lower case.
      token68: what stands in place of parameters; None without.
    """

    scheme: str
    parameters: dict[str, str] = attrs.field(factory=dict)
    token68: str | None = None


def challenges(values: Iterable[str]) -> list[Challenge]:
    """Return the challenges of a response, in the server's order.

    Args:
      values: of the WWW-Authenticate fields, one for each line: `Headers.get_all` gives them. Any strings.
        Lines count as one list (RFC 9110 §5.3), except that a quoted string does not go on in the next one.

    Returns:
      Those that are well-formed; empty without any. Of one line, those among its first 1000 elements.

    Reference: RFC 9110 §11.3, §11.6.1.
    """
    found: list[Challenge] = []
    current: Challenge | None = None  # what a parameter belongs to; None: to nothing that could be used
    for value in values:
        for element in _elements(value):
            if match := _PARAMETER.fullmatch(element):
                if current is None or _add(current, match):
                    continue
            elif match := _SCHEME.fullmatch(element):
                current = _begun(match)
                if current is not None:
                    found.append(current)
                continue
            # Malformed, and so is the challenge under way; what follows up to the next scheme is nobody's.
            if current is not None:
                found.pop()
                current = None
    return found


def parameters_of(value: str) -> dict[str, str]:
    """Return the parameters of a field that has nothing else, such as Authentication-Info (RFC 9110 §11.6.3).

    Returns:
      Values by name in lower case, of a repeated one the first; what is malformed is left out.
    """
    found: dict[str, str] = {}
    for element in _elements(value):
        if match := _PARAMETER.fullmatch(element):
            found.setdefault(match[1].lower(), _value_of(match))
    return found


def quoted(text: str) -> str:
    """Return ``text`` as a quoted string (RFC 9110 §5.6.4)."""
    return f'"{_TO_ESCAPE.sub(_escape, text)}"'


def _elements(value: str) -> Iterator[str]:
    """Cut a list at its commas outside of quoted strings; empty elements are nothing (RFC 9110 §5.6.1)."""
    start = position = commas = 0
    while stop := _STOP.search(value, position):
        if stop.group() == ",":
            commas += 1
            if commas > _MAX_ELEMENTS:
                return
            if element := value[start : stop.start()].strip(" \t"):
                yield element
            start = position = stop.end()
        elif string := _QUOTED_STRING.match(value, stop.start()):
            position = string.end()
        else:
            break  # a string without an end: all of the rest is one element, and malformed by it
    if element := value[start:].strip(" \t"):
        yield element


def _begun(match: re.Match[str]) -> Challenge | None:
    """Return the challenge that an element begins with a scheme; None for a malformed one."""
    scheme, rest = match.groups()
    challenge = Challenge(scheme.lower())
    if rest is None:
        return challenge
    if parameter := _PARAMETER.fullmatch(rest):
        return challenge if _add(challenge, parameter) else None
    return attrs.evolve(challenge, token68=rest) if TOKEN68.fullmatch(rest) else None


def _add(challenge: Challenge, match: re.Match[str]) -> bool:
    """Add a parameter, and tell whether the challenge may have it."""
    name = match[1].lower()
    if challenge.token68 is not None or name in challenge.parameters:
        return False
    challenge.parameters[name] = _value_of(match)
    return True


def _value_of(match: re.Match[str]) -> str:
    token: str | None = match[2]
    return _ESCAPED.sub(r"\1", match[3][1:-1]) if token is None else token


def _escape(match: re.Match[str]) -> str:
    return "\\" + match.group()
