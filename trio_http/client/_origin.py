"""Where requests go: scheme, host and port together (RFC 9110 §4.3.1)."""

from __future__ import annotations

from typing import Final, NamedTuple

#: The schemes that we speak, and the port that each has when a URL names none (RFC 9110 §4.2).
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """The three things that connections are kept by.

    Attributes:
      scheme: "http" or "https".
      host: a name in lower case, or an IP address without brackets.
      port: 1-65535.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port as they stand in a Host field: the scheme's own port is left out (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"
