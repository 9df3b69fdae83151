"""Entity tags and the preconditions that name them (RFC 9110 sections 8.8.3 and 13.1)."""

import time
from dataclasses import dataclass

import pytest
from flask import Flask
from flask.ctx import RequestContext
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import PreconditionFailed, PreconditionRequired
from app.web.conditional import (
    EntityTagMalformed,
    check_if_match,
    entity_tag,
    is_not_modified,
    read_if_match,
)


@dataclass
class Row:
    """Something with a version."""

    version: int


def request(**headers: str) -> RequestContext:
    """A request with these headers."""
    return Flask("bare").test_request_context(headers={name.replace("_", "-"): text for name, text in headers.items()})


class TestEntityTag:
    @pytest.mark.parametrize(("version", "tag"), [(1, '"1"'), (2**31, '"2147483648"')])
    def test_is_strong_and_tells_the_version(self, version: int, tag: str) -> None:
        assert entity_tag(Row(version)) == tag


class TestReadIfMatch:
    def test_is_none_where_nothing_is_sent(self) -> None:
        with request():
            assert read_if_match() is None

    @pytest.mark.parametrize(
        ("header", "tags"),
        [
            ('"1"', {'"1"'}),
            ('W/"1"', {'"1"'}),
            ('"1", "2"', {'"1"', '"2"'}),
            ('"1","2"\t,  W/"3"', {'"1"', '"2"', '"3"'}),
            (', ,"1",, "2",', {'"1"', '"2"'}),
            ('""', {'""'}),
            ('"a,b"', {'"a,b"'}),
            ('"*"', {'"*"'}),
            ('"\xe9\xff!#~"', {'"\xe9\xff!#~"'}),
            ("*", {"*"}),
            (" * ", {"*"}),
        ],
    )
    def test_takes_a_list_of_tags_or_a_star(self, header: str, tags: set[str]) -> None:
        with request(If_Match=header):
            assert read_if_match() == frozenset(tags)

    @pytest.mark.parametrize(
        "header",
        [
            "",
            " ",
            ",",
            "1",
            '"1',
            '1"',
            'w/"1"',
            'W/ "1"',
            "W/1",
            "W/*",
            '"1" "2"',
            '"1";"2"',
            '*, "1"',
            '"1", *',
            '"a b"',
            '"a"b"',
        ],
    )
    def test_refuses_everything_else(self, header: str) -> None:
        with request(If_Match=header), pytest.raises(EntityTagMalformed):
            read_if_match()

    @pytest.mark.parametrize("filler", [" ", "\t", ",", " ,", '"1"', '"1",', '"1" ', 'W/"1",', '"1"\t,\t'])
    def test_reads_a_long_list_in_no_time(self, filler: str) -> None:
        header = f'"1"{filler * 4096}'[:4090] + " x"
        started = time.process_time()

        with request(If_Match=header), pytest.raises(EntityTagMalformed):
            read_if_match()

        assert time.process_time() - started < 0.5

    @given(st.text(st.characters(max_codepoint=0xFF, exclude_characters="\r\n"), max_size=30))
    def test_refuses_or_reads_any_text(self, header: str) -> None:
        with request(If_Match=header):
            try:
                tags = read_if_match()
            except EntityTagMalformed:
                return
        assert tags == frozenset("*") or all(tag.startswith('"') and tag.endswith('"') for tag in tags or ())


class TestCheckIfMatch:
    def test_requires_a_precondition(self) -> None:
        with pytest.raises(PreconditionRequired):
            check_if_match(None, Row(1))

    @pytest.mark.parametrize("tags", [{'"1"'}, {'"7"', '"1"'}, {"*"}])
    def test_lets_the_version_pass(self, tags: set[str]) -> None:
        check_if_match(frozenset(tags), Row(1))

    @pytest.mark.parametrize("tags", [set(), {'"2"'}, {'"11"'}, {"1"}, {'"*"'}])
    def test_refuses_every_other(self, tags: set[str]) -> None:
        with pytest.raises(PreconditionFailed):
            check_if_match(frozenset(tags), Row(1))


class TestIsNotModified:
    @pytest.mark.parametrize("header", ['"1"', 'W/"1"', '"7", "1"', "*"])
    def test_is_true_for_who_holds_the_tag(self, header: str) -> None:
        with request(If_None_Match=header):
            assert is_not_modified('"1"')

    @pytest.mark.parametrize("header", ['"2"', "1", "", "nonsense", '"1" "1"'])
    def test_is_false_for_who_does_not_or_cannot_say(self, header: str) -> None:
        with request(If_None_Match=header):
            assert not is_not_modified('"1"')

    def test_is_false_where_nothing_is_sent(self) -> None:
        with request():
            assert not is_not_modified('"1"')
