"""TLS in a simulation: the same certificate in all runs, and messages of the same length.

What TLS draws by chance, no seed decides. But nothing in a run goes by it as long as it is of one length. So
the key is of RSA, whose signatures have one; those of elliptic curves have not.
"""

from __future__ import annotations

import functools
import ssl
from ssl import SSLContext

import trustme

HOSTS = ("a.test", "b.test", "gate.test")


@functools.cache
def contexts() -> tuple[SSLContext, SSLContext]:
    """Return a client's context and a server's, whose certificate is good for `HOSTS`."""
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    client, server = SSLContext(ssl.PROTOCOL_TLS_CLIENT), SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert(*HOSTS, key_type=trustme.KeyType.RSA).configure_cert(server)
    return client, server
