"""Cells that spreadsheets leave alone, and that come back as they were."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.features.exports.files import guard_formula, join_tags, split_tags, unguard_formula


class TestGuardFormula:
    @pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1"])
    def test_puts_an_apostrophe_before_what_a_spreadsheet_would_calculate(self, cell: str) -> None:
        assert guard_formula(cell) == f"'{cell}"

    @pytest.mark.parametrize("cell", ["", "Chair", "1-1", "'s Gravenhage", "a=b"])
    def test_leaves_other_cells_alone(self, cell: str) -> None:
        assert guard_formula(cell) == cell

    @given(st.text(alphabet="'=+-@\t\r\nab", max_size=6) | st.text())
    def test_never_begins_with_what_begins_a_formula(self, cell: str) -> None:
        assert not guard_formula(cell).startswith(("=", "+", "-", "@", "\t", "\r"))

    @given(st.text(alphabet="'=+-@\t\r\nab", max_size=6) | st.text())
    def test_is_undone_when_the_cell_is_read(self, cell: str) -> None:
        assert unguard_formula(guard_formula(cell)) == cell


class TestTags:
    @given(st.lists(st.text(alphabet="a|\\ ", min_size=1) | st.text(min_size=1)))
    @example(["a\\", "|b", "\\|"])
    def test_are_split_as_they_were_joined(self, tags: list[str]) -> None:
        assert split_tags(join_tags(tags)) == tags

    def test_that_are_empty_are_none(self) -> None:
        assert split_tags("a||b|") == ["a", "b"]

    @given(st.text("a|, \n"))
    def test_without_a_backslash_are_split_as_with_one(self, cell: str) -> None:
        assert split_tags(cell) == split_tags(rf"{cell}|\|")[:-1]
