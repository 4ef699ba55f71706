"""What the clients are run against: nginx, and a raw server where nginx cannot serve."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

import _harness as harness
import _traffic as traffic
import server

HOST = "127.0.0.1"
FOLDER = Path(__file__).resolve().parent

# The file is sparse and its folder in memory where there is such a folder, so that no disk is measured.
NGINX = """
daemon off;
pid {folder}/pid;
error_log stderr crit;
{user}
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    default_type text/plain;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen {host}:{port} backlog=4096;
        location / {{ return 200 "{body}"; }}
        location /files/ {{ alias {folder}/files/; }}
    }}
    {tls}
}}
"""

TLS = """
    server {{
        listen {host}:{port} ssl backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location / {{ return 200 "{body}"; }}
    }}
"""


class Nginx:
    """An nginx with its files in a folder, to be run by `harness.serving`.

    Args:
      folder: for all its files.
      length: bytes of the file that it serves.

    Attributes:
      command: the command line.
      port: where it listens.
      trust: the file with its issuer's certificate; None: there is no `trustme`, and no TLS.

    Raises:
      Absent: nginx is not installed.
    """

    def __init__(self, folder: str, length: int) -> None:
        program = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
        if program is None:
            raise harness.Absent("no program nginx")
        self.port, self._tls_port = harness.free_port(), harness.free_port()
        body = traffic.ANSWER_BODY.decode()
        files = Path(folder, "files")
        files.mkdir()
        with Path(files, "body").open("wb") as file:
            file.truncate(length)
        self.trust = _make_certificate(folder)
        tls = ""
        if self.trust is not None:
            certificate, key = f"{folder}/certificate.pem", f"{folder}/key.pem"
            tls = TLS.format(host=HOST, port=self._tls_port, certificate=certificate, key=key, body=body)
        # Started by root, it would become a user who cannot read these files.
        user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
        text = NGINX.format(folder=folder, user=user, host=HOST, port=self.port, body=body, tls=tls)
        config = Path(folder, "nginx.conf")
        config.write_text(text)
        self.command = [program, "-e", "stderr", "-p", folder, "-c", str(config)]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    @property
    def tls_url(self) -> str:
        return f"https://{HOST}:{self._tls_port}/"

    @property
    def body_url(self) -> str:
        return f"{self.url}files/body"


def _make_certificate(folder: str) -> str | None:
    """Write a certificate for `HOST` with its key, and its issuer's; return the file of the last."""
    try:
        import trustme
    except ImportError:
        return None
    issuer = trustme.CA()
    certificate = issuer.issue_cert(HOST)
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(f"{folder}/certificate.pem", append=number > 0)
    certificate.private_key_pem.write_to_path(f"{folder}/key.pem")
    issuer.cert_pem.write_to_path(f"{folder}/issuer.pem")
    return f"{folder}/issuer.pem"


def fixed_server(port: int) -> list[str]:
    """Return the command of the raw trio server that answers small GETs where nginx is not installed."""
    return server.command(server.RAW, port)


def raw_server(port: int, addresses: int) -> list[str]:
    """Return the command of `_raw_server.py`."""
    return [sys.executable, str(FOLDER / "_raw_server.py"), str(port), str(addresses)]


def memory_folder() -> str | None:
    """Return a folder whose files are in memory, or None where there is none that is known."""
    folder = "/dev/shm"
    return folder if os.path.isdir(folder) and os.access(folder, os.W_OK) else None


def raise_descriptor_limit() -> int:
    """Raise the limit of open descriptors, also for children, as far as it goes; return what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize
