"""The keywords of requests."""

from __future__ import annotations

from typing import Any, TypedDict

from trio_http.messages import CharsetChoice, FieldsInput

from ._auth import AuthInput
from ._config import ClientPace
from ._content import ContentInput
from ._multipart import FormInput
from ._plan import TrailersInput
from ._retry import Retry
from ._settings import OnInterim, Report
from ._url import ParamsInput


class RequestOptions(TypedDict, total=False):
    """The keywords of requests without content."""

    params: ParamsInput | None
    headers: FieldsInput | None
    target: str | bytes | None
    auth: AuthInput | None
    follow_redirects: bool
    retry: Retry | None
    decode: bool
    charset: CharsetChoice
    pace: ClientPace
    propagate_deadline: bool
    on_interim: OnInterim | None
    report: Report | None


class ContentOptions(RequestOptions, total=False):
    """The keywords of requests with content."""

    content: ContentInput | None
    json: Any
    data: ParamsInput | None
    files: FormInput | None
    compress: str | None
    trailers: TrailersInput | None
