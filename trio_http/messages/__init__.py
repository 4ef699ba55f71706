"""What server and client have in common above the wire: header fields, bodies, whole responses."""

from __future__ import annotations

from ._body import MessageBody as MessageBody
from ._charset import CharsetChoice as CharsetChoice
from ._charset import charset_of as charset_of
from ._charset import decode_text as decode_text
from ._content_coding import ContentCodingError as ContentCodingError
from ._content_coding import ContentTooExpanded as ContentTooExpanded
from ._content_coding import accept_encoding as accept_encoding
from ._content_coding import supported_codings as supported_codings
from ._content_decoder import ContentDecoder as ContentDecoder
from ._content_decoder import decoder_for as decoder_for
from ._content_encoder import ContentEncoder as ContentEncoder
from ._forwarded import ForwardedFacts as ForwardedFacts
from ._forwarded import ForwardedStyle as ForwardedStyle
from ._forwarded import client_of as client_of
from ._forwarded import peer_facts as peer_facts
from ._headers import FieldsInput as FieldsInput
from ._headers import Headers as Headers
from ._headers import as_wire_headers as as_wire_headers
from ._lines import MAX_LINE_CHARS as MAX_LINE_CHARS
from ._lines import Lines as Lines
from ._lines import LineTooLong as LineTooLong
from ._pieces import Pieces as Pieces
from ._response import Response as Response
