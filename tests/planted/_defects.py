"""All planted defects."""

from __future__ import annotations

from tests.planted import _client_defects, _server_defects

DEFECTS = [*_client_defects.DEFECTS, *_server_defects.DEFECTS]
