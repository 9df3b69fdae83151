"""The strict door: one JSON text, read to its end, or a refusal."""

import io
import json
import time
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import ContentTooLarge, Malformed, Refusal, UnsupportedMediaType
from app.web.body import (
    JSON,
    MAX_VALUES,
    MERGE_PATCH,
    BodyUnreadable,
    DuplicateKey,
    JsonMalformed,
    NumberOutOfRange,
    TooManyValues,
    parse_json,
    read_json,
)

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)

#: An application that does nothing but read bodies.
BARE = Flask("bare")
BARE.config["MAX_CONTENT_LENGTH"] = 100


class TestParseJson:
    def test_takes_as_many_values_as_a_full_batch_has(self) -> None:
        fifty = [str(number) for number in range(50)]
        item = dict.fromkeys(fifty[:11]) | {"tags": fifty, "attributes": dict.fromkeys(fifty)}
        batch = {"items": [item] * 1000}

        assert parse_json(json.dumps(batch).encode()) == batch

    @pytest.mark.parametrize(
        "text", [",[{" * MAX_VALUES, "\\\\" * MAX_VALUES, '\\"' * MAX_VALUES], ids=["marks", "slashes", "quotes"]
    )
    def test_counts_no_values_in_strings(self, text: str) -> None:
        assert parse_json(f'["{text}", 1]'.encode())[1] == 1

    @pytest.mark.parametrize(
        "content",
        [
            b"[" + b"1," * MAX_VALUES + b"1]",
            b"[" + b",".join([b"[" * 900 + b"]" * 900] * (MAX_VALUES // 900 + 1)) + b"]",
            b"{" + b",".join([b'"a,":{}'] * MAX_VALUES) + b"}",
            b'"' + b"[" * (MAX_VALUES + 1) + b'",' + b"[" * (MAX_VALUES + 1),
        ],
        ids=["numbers", "nests", "objects", "no JSON"],
    )
    def test_refuses_more_values_unread(self, content: bytes) -> None:
        with pytest.raises(TooManyValues):
            parse_json(content)

    @pytest.mark.parametrize("end", [b"", b'"', b"\\"])
    def test_counts_the_values_of_broken_texts_in_one_pass(self, end: bytes) -> None:
        started = time.process_time()

        with pytest.raises((TooManyValues, JsonMalformed)):
            parse_json(b"," * (MAX_VALUES + 1) + rb"\"" * 1_000_000 + end)

        # Where each quote is tried for a beginning, hours.
        assert time.process_time() - started < 5

    @given(values)
    def test_reads_whatever_is_json(self, value: Any) -> None:
        assert parse_json(json.dumps(value).encode()) == value

    @given(values)
    def test_reads_what_is_not_escaped(self, value: Any) -> None:
        assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value

    @pytest.mark.parametrize(
        ("content", "value"),
        [
            (b"9223372036854775807", 2**63 - 1),
            (b"-9223372036854775807", -(2**63) + 1),
            (b"0.1", 0.1),
            (b"1e3", 1000.0),
            (b"-0", 0),
            (b" \t\r\n{} ", {}),
            (rb'"\ud83e\ude91"', "🪑"),
            (rb'"\u0000"', "\x00"),
        ],
        ids=lambda value: repr(value)[:24],
    )
    def test_reads_the_edges_of_json(self, content: bytes, value: Any) -> None:
        assert parse_json(content) == value

    def test_reads_what_is_nested_within_reason(self) -> None:
        assert json.dumps(parse_json(b"[" * 500 + b"]" * 500)) == "[" * 500 + "]" * 500

    @pytest.mark.parametrize(
        ("content", "refusal"),
        [
            (b"", JsonMalformed),
            (b" ", JsonMalformed),
            (b"{", JsonMalformed),
            (b"{} {}", JsonMalformed),
            (b"{}x", JsonMalformed),
            (b"[1,]", JsonMalformed),
            (b'{"a":1,}', JsonMalformed),
            (b"{'a':1}", JsonMalformed),
            (b"{a:1}", JsonMalformed),
            (b"// nothing\n{}", JsonMalformed),
            (b"NaN", JsonMalformed),
            (b"[Infinity]", JsonMalformed),
            (b"-Infinity", JsonMalformed),
            (b"01", JsonMalformed),
            (b"+1", JsonMalformed),
            (b"1.", JsonMalformed),
            (b".5", JsonMalformed),
            (b"0x1", JsonMalformed),
            (b"1_000", JsonMalformed),
            (b"True", JsonMalformed),
            (b'"tab\there"', JsonMalformed),
            (b'"nul\x00"', JsonMalformed),
            (rb'"\x41"', JsonMalformed),
            (rb'"\ud800"', JsonMalformed),
            (rb'{"\udc00": 1}', JsonMalformed),
            (b'"\xed\xa0\x80"', JsonMalformed),
            (b'"\xff"', JsonMalformed),
            (b'"\xc0\x80"', JsonMalformed),
            ('"é"'.encode("latin-1"), JsonMalformed),
            ('{"a": 1}'.encode("utf-16"), JsonMalformed),
            (b"\xef\xbb\xbf{}", JsonMalformed),
            (b"[" * 100_000, JsonMalformed),
            (b"[" * 100_000 + b"]" * 100_000, JsonMalformed),
            (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, JsonMalformed),
            (b'{"a": 1, "a": 1}', DuplicateKey),
            (rb'{"a": 1, "\u0061": 2}', DuplicateKey),
            (b'[{"b": {"a": 1, "a": 2}}]', DuplicateKey),
            (b"9223372036854775808", NumberOutOfRange),
            (b"-9223372036854775808", NumberOutOfRange),
            (b"1" * 5000, JsonMalformed),
            (b"1e400", JsonMalformed),
            (b"[-1e400]", JsonMalformed),
        ],
        ids=lambda value: f"{len(value)} {value[:30]!r}" if isinstance(value, bytes) else value.__name__,
    )
    def test_refuses_everything_else(self, content: bytes, refusal: type[Refusal]) -> None:
        with pytest.raises(refusal):
            parse_json(content)

    @given(st.binary(max_size=40))
    def test_refuses_or_reads_any_bytes(self, content: bytes) -> None:
        try:
            parsed = parse_json(content)
        except Malformed:
            return
        assert parsed == json.loads(content)


class TestReadJson:
    @staticmethod
    def read(content: bytes, limit: int = 100, **environ: Any) -> Any:
        """What is read of a request with this body."""
        options = {"content_type": JSON, "input_stream": io.BytesIO(content), "content_length": len(content)}
        with BARE.test_request_context(method="POST", **{**options, **environ}):
            return read_json(limit=limit, accepted=(JSON, MERGE_PATCH)).value

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/json",
            "APPLICATION/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            'application/json; charset="utf-8"',
            "application/merge-patch+json",
        ],
    )
    def test_takes_json_in_utf_8(self, media_type: str) -> None:
        assert self.read(b"{}", content_type=media_type) == {}

    @pytest.mark.parametrize(
        "media_type",
        [
            None,
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/json; charset=latin-1",
            "application/json; charset=utf-16",
            "application/jsonx",
            "application/vnd.api+json",
            "application/json-patch+json",
        ],
    )
    def test_takes_nothing_else(self, media_type: str | None) -> None:
        with pytest.raises(UnsupportedMediaType) as raised:
            self.read(b"{}", content_type=media_type)

        assert raised.value.data == {"accepted": [JSON, MERGE_PATCH]}

    @pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
    def test_takes_no_content_coding(self, coding: str) -> None:
        with pytest.raises(UnsupportedMediaType):
            self.read(b"{}", headers={"Content-Encoding": coding})

    def test_reads_up_to_the_limit(self) -> None:
        content = b'"' + b"x" * 98 + b'"'

        assert self.read(content) == "x" * 98

    def test_refuses_an_announced_byte_more(self) -> None:
        with pytest.raises(ContentTooLarge) as raised:
            self.read(b'"' + b"x" * 99 + b'"')

        assert raised.value.data == {"limit": 100}

    @pytest.mark.parametrize(("length", "refused"), [(100, False), (101, True), (10_000, True)])
    def test_refuses_a_chunked_byte_more(self, length: int, refused: bool) -> None:
        content = b'"' + b"x" * (length - 2) + b'"'
        chunked: dict[str, Any] = {"content_length": None, "environ_overrides": {"wsgi.input_terminated": True}}

        if refused:
            with pytest.raises(ContentTooLarge):
                self.read(content, **chunked)
        else:
            assert len(self.read(content, **chunked)) == 98

    def test_refuses_what_breaks_off(self) -> None:
        with pytest.raises(BodyUnreadable):
            self.read(b"{}", environ_overrides={"CONTENT_LENGTH": "3"})

    def test_refuses_what_cannot_be_read(self) -> None:
        class Broken(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def readinto(self, _: Any) -> int:
                raise OSError("reset by peer")

        with pytest.raises(BodyUnreadable):
            self.read(b"{}", environ_overrides={"wsgi.input": Broken()})

    def test_reads_nothing_where_nothing_is_sent(self) -> None:
        with pytest.raises(JsonMalformed):
            self.read(b"")
