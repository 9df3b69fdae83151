"""Forms as bodies: application/x-www-form-urlencoded, as the endpoints of OAuth 2 and our own pages take it."""

from collections.abc import Collection

from flask import request

from app.core.errors import Fault, Invalid, UnsupportedMediaType
from app.web.body import UNREAD, JsonBody, read_blocks
from app.web.query import Others, QueryMalformed, read_query
from app.web.uploads import FormMalformed

#: What is refused of a form.
REFUSALS = (*UNREAD, FormMalformed)


def read_form(*, limit: int, accepted: tuple[str, ...], names: Collection[str]) -> JsonBody:
    """The request's body as a form, whose value is a mapping of texts: those of ``names`` that are not empty.

    Refuses another media type, charset or content coding (415), more than ``limit`` bytes (413), what is not
    percent-encoded UTF-8 (400), and a parameter of ``names`` that is there twice (422).
    """
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype not in accepted or charset not in {"utf-8", "utf8"} or request.content_encoding:
        raise UnsupportedMediaType(accepted=list(accepted))
    content = b"".join(read_blocks(limit))
    try:
        parameters = read_query(content, Others(names))
    except QueryMalformed:
        raise FormMalformed from None
    except Invalid as refusal:
        repeated = [Fault(fault.detail, fault.code, pointer=f"/{fault.parameter}") for fault in refusal.faults]
        raise Invalid(*repeated) from None
    return JsonBody(content, {name: parameters[name] for name in names if parameters.get(name, "") != ""})
