"""Our client downloading from nginx, which has ranges and If-Range of its own (C42)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from tests.interop.test_nginx import CONTENT, Nginx
from tests.interop.test_nginx import nginx as nginx
from trio_http import Progress
from trio_http.client import Client

pytestmark = pytest.mark.interop


async def cancelled_at(client: Client, url: str, target: Path, received: int) -> int:
    """Have a download cancelled when so much has come; return how much of it is there."""
    with trio.CancelScope() as scope:

        def cancel(progress: Progress) -> None:
            if progress.received >= received:
                scope.cancel()

        await client.download(url, target, progress=cancel)
    assert scope.cancelled_caught
    return os.stat(f"{target}.part").st_size


def files(target: Path) -> list[str]:
    return [name for name in os.listdir(target.parent) if name.startswith(target.name)]


@pytest.mark.parametrize("received", [1, 3_000_000, len(CONTENT)])
async def test_a_cancelled_download_is_gone_on_with(
    received: int, nginx: Nginx, client: Client, tmp_path: Path
) -> None:
    url, target = nginx.url + "/content.txt", tmp_path / "downloaded"
    there = await cancelled_at(client, url, target, received)
    assert there >= received
    result = await client.download(url, target)
    assert (result.status, result.requests) == (416 if received == len(CONTENT) else 206, 1)
    assert (result.resumed_from, result.size) == (there, len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert files(target) == ["downloaded"]


async def test_a_file_that_has_changed_is_downloaded_from_its_beginning(
    nginx: Nginx, client: Client, tmp_path: Path
) -> None:
    url, target = nginx.url + "/content.txt", tmp_path / "downloaded"
    await cancelled_at(client, url, target, 3_000_000)
    changed = CONTENT[::-1] + b"more"
    (nginx.files / "content.txt").write_bytes(changed)
    result = await client.download(url, target)
    assert (result.status, result.resumed_from, result.requests) == (200, 0, 1)
    assert target.read_bytes() == changed
    assert files(target) == ["downloaded"]
