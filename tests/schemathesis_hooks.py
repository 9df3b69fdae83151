"""What schemathesis must know that no document can say: hooks for its command line (schemathesis.toml) and tests."""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.core.parameters import DelimitedValue
from schemathesis.hooks import HookContext

#: What no schema can say, by the code of the refusal and the one reason why a request that fits may be refused.
UNSAYABLE = {
    "attribute_unknown": "which rows there are",
    "brand_unknown": "which rows there are",
    "cannot_change": "what a row has",
    "category_unknown": "which rows there are",
    "product_type_unknown": "which rows there are",
    "variant_unknown": "which rows there are",
    "not_a_variant": "which rows are variants",
    "not_a_parent": "which rows are parents",
    "parent_differs": "which row a variant has for a parent",
    "options_unfit": "that the members of one are the items of another",
    "rolled_up": "that members exclude each other",
    "member_of_parent": "which rows are variants",
    "kept_as_it_is": "that members exclude each other",
    "attribute_missing": "which attributes a type requires",
    "not_a_scalar": "that a member has another form where another is null",
    "option_unknown": "which options a type has",
    "attribute_not_filterable": "which attributes there are",
    "range_unfit": "which type an attribute has",
    "attribute_invalid": "which values an attribute has",
    "slug_taken": "which rows there are, of an item of a batch",
    "gtin_taken": "which rows there are, of an item of a batch",
    "external_id_taken": "which rows there are, of an item of a batch",
    "options_taken": "which rows there are, of an item of a batch",
    "options_in_use": "which rows there are, of an item of a batch",
    "too_many_variants": "which rows there are, of an item of a batch",
    "currency_of_variant_differs": "what another row has, of an item of a batch",
    "stock_not_tracked": "what a row has, of an item of a batch",
    "not_single": "which rows are variants, of an item of a batch",
    "picture_unreadable": "what a picture is",
    "url_not_allowed": "which hosts are public",
    "media_unfetchable": "which hosts are public",
    "media_unknown": "which rows there are",
    "not_its_variant": "which rows there are",
    "code_challenge_misplaced": "that two parameters depend on each other",
    "login_code_invalid": "which codes there are",
    "not_a_uri": "what a URI is",
    "redirect_has_fragment": "what a URI is",
    "redirect_has_user": "what a URI is",
    "redirect_has_wildcard": "what a URI is",
    "redirect_insecure": "what a URI is",
    "return_to_refused": "which pages there are",
    "too_precise": "how many decimals each currency has",
    "check_digit": "what the last digit of a number must be",
    "key_differs": "that a member and a part of the path are equal",
    "choices_missing": "that two members depend on each other",
    "choices_unexpected": "that two members depend on each other",
    "option_not_single": "what another row has",
    "product_incomplete": "which rows there are",
    "duplicate_sku": "that of two items the members differ",
    "idempotency_key_reused": "which requests were sent before",
    "parent_unknown": "which rows there are",
    "parent_sku_unknown": "which rows there are",
    "cursor_invalid": "what we have signed",
    "page_and_cursor": "that two parameters exclude each other",
    "cursor_and_from": "that two parameters exclude each other",
    "not_included": "that one parameter needs another",
    "tree_stands_alone": "that a parameter excludes all others",
    "relevance_unknown": "that one parameter needs another",
    "same_mark": "that two parameters exclude each other",
    "repeated": "that a parameter and a field of a form are equal, or a member of two items",
    "not_a_mark": "that a word stands for a character",
    "encoding_unknown": "which encodings there are",
    "not_an_address": "which addresses can get mail",
    "expiry_passed": "what time it is",
    "password_too_common": "which passwords are common",
    "current_password_wrong": "which password is whose",
    "reset_token_invalid": "what we have signed",
    "delta_unfit": "that two members depend on each other",
    "too_many_bytes": "how many bytes a text is",
    "not_a_map": "what is in a text that is JSON",
    "since_or_cursor": "that two members exclude each other",
    "format_unknown": "that one of a format, a media type and a name must tell",
}

#: The members of a patch that any product can have, whatever else it has.
FIT_ANY_PRODUCT = {"name", "description", "mpn", "low_stock_at", "status", "weight_g", "tags"}
_patches = count()

#: The parameters that are lists in a text, by place and name.
LISTS = (("query", "fields"), ("header", "If-Match"))


@schemathesis.hook
def before_load_schema(_context: HookContext, document: dict[str, Any]) -> None:
    """Leave out how long a list of names or of entity tags may be.

    For a list that is just so long schemathesis tries thousands of random lists, which is half of its time, and finds
    none. tests/web/test_hostile_inputs.py sends each of these parameters one that is too long.
    """
    for described in walk(document):
        if (described.get("in"), described.get("name")) in LISTS:
            described["schema"].pop("maxLength", None)


@schemathesis.hook
def before_call(_context: HookContext, case: schemathesis.Case[Any], _options: dict[str, Any]) -> None:
    """Write a comma and a backslash within one of several values as the document says: with a backslash before it.

    A null of a response that is taken for a parameter of the next request is left out. Every fourth patch of a product
    has only what any product can have, and any version: a whole random one fits none, so that nothing would be proved.
    """
    if isinstance(case.body, dict) and _is_positive_patch(case) and next(_patches) % 4 == 0:
        case.body = {name: value for name, value in case.body.items() if name in FIT_ANY_PRODUCT}
        case.headers["If-Match"] = "*"
    for name, value in list((case.query or {}).items()):
        if value is None or getattr(value, "encoded", value) == "None":
            del case.query[name]
        if isinstance(value, DelimitedValue):
            value.encoded = value.encoded.replace("%5C", "%5C%5C").replace("%2C", "%5C%2C")


def _is_positive_patch(case: schemathesis.Case[Any]) -> bool:
    """Whether it is a patch of a product by its id that the schema allows."""
    is_patch = case.operation.label == "PATCH /api/v1/products/{product_id}"
    return is_patch and case.meta is not None and case.meta.generation.mode.is_positive


def walk(described: Any) -> Iterator[dict[str, Any]]:
    """Every object within a document."""
    if isinstance(described, dict):
        yield described
    for part in described.values() if isinstance(described, dict) else described if isinstance(described, list) else ():
        yield from walk(part)


@schemathesis.hook
def filter_failure(
    _context: HookContext, failure: Failure, case: schemathesis.Case[Any], response: schemathesis.Response
) -> bool:
    """Keep every failure but those that would have the schema say what none can."""
    return not _EXCUSES.get(type(failure).__name__, _none)(failure, case, response)


Excuse = Callable[[Failure, "schemathesis.Case[Any]", schemathesis.Response], bool]


def _none(_failure: Failure, _case: schemathesis.Case[Any], _response: schemathesis.Response) -> bool:
    return False


def _was_deactivated(failure: Failure, _case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    """DELETE deactivates: what the user did stays theirs."""
    return str(failure.operation).endswith("/users/{user_id}") and response.json()["is_active"] is False


def _repeats_values(failure: Failure, _case: schemathesis.Case[Any], _response: schemathesis.Response) -> bool:
    """Values that are repeated count once. tests/web/test_hostile_inputs.py sends a thousand different ones."""
    return "in query" in failure.message and set(re.findall(r"violates `(\w+)`", failure.message)) == {"maxItems"}


def _chose_members(failure: Failure, case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    """`fields` leaves out what the schema of the items requires, be it one of several."""
    lacks = ("is a required property", "'oneOf' keyword")
    is_narrowed = response.status_code == 200 and "fields" in (case.query or {})
    return is_narrowed and any(words in failure.message for words in lacks)


def _breaks_rules_alone(_failure: Failure, case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    """No schema can say what the request was refused for."""
    problem = response.json()
    if problem.get("code") == "entity_tag_malformed":
        # The phase coverage writes 0 for a precondition that can be left out, although its pattern forbids that.
        return True
    if "error" in problem and problem["code"] != "invalid":
        # No schema says which clients, codes and tokens there are, and which parameters each grant type needs.
        return True
    if problem.get("code") == "logout_token_invalid":
        # Nor what a provider has signed.
        return True
    if problem.get("code") == "picture_unsupported":
        # No schema of bytes says what a picture is.
        return True
    if response.status_code != 422:
        return False
    # The patterns of visible texts name the invisible characters up to U+FFFF.
    unsayable = UNSAYABLE.keys() | ({"malformed"} if _has_rare_characters(case) else set())
    # The form of a value in the path of a PUT depends on the key before it.
    key = f"/{(case.path_parameters or {}).get('key')}" if case.method == "PUT" else None
    return all(
        fault["code"] in unsayable
        or fault.get("pointer") == key
        # Of what has no names of options.
        or (fault.get("pointer"), fault["code"]) == ("/price", "required")
        for fault in problem["errors"]
    )


def _has_no_route(_failure: Failure, _case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    """Where the path leads to no operation, none can say in which form it refuses."""
    return response.status_code == 404


def _has_rare_characters(case: schemathesis.Case[Any]) -> bool:
    sent = repr((case.path_parameters, case.query, case.body))
    # What cannot be printed is escaped within what is.
    return re.search(r"[^\x00-\uffff]|\\U000[0-9a-f]{5}", sent) is not None


#: What excuses a failure, by its kind.
_EXCUSES: Mapping[str, Excuse] = {
    "UseAfterFree": _was_deactivated,
    "AcceptedNegativeData": _repeats_values,
    "JsonSchemaError": _chose_members,
    "RejectedPositiveData": _breaks_rules_alone,
    "UndefinedContentType": _has_no_route,
}
