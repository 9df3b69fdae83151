"""The tree of refusals."""

import re
from collections.abc import Iterator

import pytest

from app.core import errors
from app.core.errors import Fault, Invalid, Refusal
from app.features.products.models import TooManyAttributes
from app.web.errors import STATUSES, status_of


def descendants(refusal: type[Refusal]) -> Iterator[type[Refusal]]:
    """Every refusal of the application below this one."""
    for child in refusal.__subclasses__():
        if child.__module__.startswith("app."):
            yield child
            yield from descendants(child)


#: In an order that every process of pytest-xdist agrees on.
REFUSALS = sorted(set(descendants(Refusal)), key=lambda refusal: (refusal.__module__, refusal.__qualname__))


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.__qualname__)
class TestEveryRefusal:
    def test_has_a_status(self, refusal: type[Refusal]) -> None:
        assert 400 <= status_of(refusal) <= 503

    def test_has_a_code_in_snake_case(self, refusal: type[Refusal]) -> None:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", refusal.code())

    def test_has_a_sentence_of_its_own(self, refusal: type[Refusal]) -> None:
        assert refusal.__doc__ != refusal.__base__.__doc__
        assert re.fullmatch(r"[A-Z].*\.", refusal.sentence())


class TestCodes:
    def test_tell_all_refusals_apart(self) -> None:
        codes = [refusal.code() for refusal in REFUSALS]

        assert sorted(codes) == sorted(set(codes))

    def test_are_the_names_of_the_categories(self) -> None:
        assert {status: category.code() for category, status in STATUSES.items()} == {
            400: "malformed",
            401: "unauthenticated",
            403: "forbidden",
            404: "not_found",
            408: "request_timeout",
            409: "conflict",
            410: "gone",
            412: "precondition_failed",
            413: "content_too_large",
            414: "uri_too_long",
            415: "unsupported_media_type",
            417: "expectation_failed",
            422: "invalid",
            426: "upgrade_required",
            428: "precondition_required",
            429: "too_many_requests",
            431: "request_header_fields_too_large",
            503: "unavailable",
        }


class TestInvalid:
    def test_points_where_its_rule_is_about(self) -> None:
        assert TooManyAttributes().faults == (
            Fault(TooManyAttributes.sentence(), "too_many_attributes", pointer="/attributes"),
        )

    def test_points_at_the_whole_body_otherwise(self) -> None:
        assert [fault.pointer for fault in Invalid().faults] == [""]

    def test_keeps_the_faults_that_it_is_given(self) -> None:
        fault = Fault("Wrong.", "wrong", parameter="page")

        assert Invalid(fault).faults == (fault,)


class TestData:
    def test_is_what_the_refusal_was_raised_with(self) -> None:
        assert errors.ContentTooLarge(limit=3).data == {"limit": 3}

    @pytest.mark.parametrize("data", [{}, {"limit": 3, "size": 4}, {"size": 4}])
    def test_is_what_the_class_declares(self, data: dict[str, int]) -> None:
        with pytest.raises(TypeError, match="content_too_large has the members"):
            errors.ContentTooLarge(**data)
