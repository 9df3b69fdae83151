"""What docs/variants.md says of refusals and limits."""

import re

from app.core.errors import Conflict
from app.features.products import routes
from app.features.products.models import (
    MAX_ATTRIBUTES,
    MAX_OPTION_LENGTH,
    MAX_OPTIONS,
    MAX_VARIANTS,
    KeptAsItIs,
    NotAParent,
    NotSellable,
    OptionsTaken,
)
from tests.servers import PROJECT

PAGE = (PROJECT / "docs" / "variants.md").read_text("utf-8")


#: What the operations of products refuse because of their families.
REFUSALS = (
    *(*routes.FAMILY_REFUSALS, *routes.VARIANT_REFUSALS, *routes.RESTORE_REFUSALS),
    *(KeptAsItIs, NotAParent, NotSellable, OptionsTaken),
)


def test_has_each_refusal_of_a_family_with_its_status() -> None:
    rows = re.findall(r"^\| (`.+`) \| (409|422) \|", PAGE, re.MULTILINE)
    told = {code: int(status) for codes, status in rows for code in re.findall(r"`(\w+)`", codes)}

    expected = {refusal.code(): 409 if issubclass(refusal, Conflict) else 422 for refusal in REFUSALS}
    assert expected.items() <= told.items()


def test_has_the_limits() -> None:
    limits = f"{MAX_VARIANTS} living variants of a parent, {MAX_OPTIONS} options, {MAX_OPTION_LENGTH} characters"

    assert f"{limits} in the value of an option, {MAX_ATTRIBUTES} attributes." in PAGE
