"""Forms as bodies: read once, strictly, and refused as JSON bodies are."""

from collections.abc import Mapping

import pytest
from flask import Flask

from app.core.errors import ContentTooLarge, Invalid, Refusal, UnsupportedMediaType
from app.web.body import FORM
from app.web.forms import read_form
from app.web.uploads import FormMalformed

NAMES = ("grant_type", "scope", "name", "sign", "state", "a", "b", "code")
#: An application that does nothing but read forms.
BARE = Flask("bare")


def read(content: bytes, *, limit: int = 100, content_type: str = FORM, **headers: str) -> Mapping[str, str]:
    with BARE.test_request_context(method="POST", data=content, content_type=content_type, headers=headers):
        value: Mapping[str, str] = read_form(limit=limit, accepted=(FORM,), names=NAMES).value
    return value


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"", {}),
        (b"grant_type=client_credentials", {"grant_type": "client_credentials"}),
        (b"scope=products%3Aread+events%3Aread", {"scope": "products:read events:read"}),
        (b"name=K%C3%A4fer&sign=%2B", {"name": "Käfer", "sign": "+"}),
        # RFC 6749 section 3.2: without a value is as good as not sent.
        (b"scope=&state", {}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"a=1&&b==2", {"a": "1", "b": "=2"}),
    ],
)
def test_are_read(content: bytes, value: Mapping[str, str]) -> None:
    assert read(content) == value
    assert read(content, content_type=f"{FORM}; charset=UTF-8") == value


@pytest.mark.parametrize("content", [b"a=1&resource=x", b"resource=x&a=1&resource=y&resource=", b"a=1&%00=1&%00=2"])
def test_ignore_what_is_unknown_however_often_it_comes(content: bytes) -> None:
    assert read(content) == {"a": "1"}


@pytest.mark.parametrize("content", [b"a=%", b"a=%zz", b"a=%ff", "a=ü".encode(), b"a=\xff"])
def test_that_are_no_percent_encoded_utf_8_are_refused(content: bytes) -> None:
    with pytest.raises(FormMalformed):
        read(content)


def test_with_a_parameter_twice_are_refused_with_its_name() -> None:
    with pytest.raises(Invalid) as refused:
        read(b"code=1&grant_type=x&code=2")

    assert [(fault.code, fault.pointer, fault.parameter) for fault in refused.value.faults] == [
        ("repeated", "/code", None)
    ]


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"content_type": "application/json"}, UnsupportedMediaType),
        ({"content_type": "multipart/form-data; boundary=x"}, UnsupportedMediaType),
        ({"content_type": f"{FORM}; charset=latin-1"}, UnsupportedMediaType),
        ({"Content-Encoding": "gzip"}, UnsupportedMediaType),
        ({"limit": 5}, ContentTooLarge),
    ],
)
def test_of_another_kind_or_size_are_refused(options: dict[str, object], refusal: type[Refusal]) -> None:
    with pytest.raises(refusal):
        read(b"code=12", **options)  # type: ignore[arg-type]  # of each its own
