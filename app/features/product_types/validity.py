"""What the rules of a product type refuse, as a condition in SQL: it says of a row what `rules` says of its values."""

from typing import Any

import orjson
from sqlalchemy import ColumnElement, Text, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute

from app.core.membership import Condition
from app.features.attributes.values import DATE, MAX_CHOSEN, MAX_NUMBER
from app.features.product_types.rules import Definition, Rules

_Column = ColumnElement[Any] | InstrumentedAttribute[Any]

#: A product of this status needs every required attribute.
ACTIVE = "active"


def is_refused(rules: Rules, *, attributes: _Column, status: _Column) -> "breaks_rules":
    """Whether a type would refuse a row as it is.

    ``attributes`` is the row's JSON object of values, ``status`` its status. It is refused with an attribute that the
    type does not list or a value that does not fit, and an active one also without a required attribute.
    """
    return breaks_rules(attributes, status, literal(_written(rules), Text()))


def _written(rules: Rules) -> str:
    """The rules as JSON; one parameter, so that the SQL is the same for all types."""
    listed = {code: _rule_of(definition) for code, definition in rules.definitions.items()}
    return orjson.dumps({"listed": listed, "required": sorted(rules.required)}).decode()


def _rule_of(definition: Definition) -> dict[str, Any]:
    choices, max_length = definition.allowed
    return {"type": definition.type, "max_length": max_length, "choices": [*choices]}


class breaks_rules(Condition):  # noqa: N801 -- reads as the condition that it compiles to
    """Whether values (first) of a row with a status (second) break rules (third, the text of JSON)."""

    inherit_cache = True


# A CASE calls what needs an array for arrays alone; the operands of AND may be evaluated in any order. A number is
# compared as JSON, which needs no conversion.
_FITS_POSTGRESQL = f"""
    CASE listed.rule ->> 'type'
        WHEN 'text' THEN jsonb_typeof(stated.value) = 'string'
            AND char_length(stated.value #>> '{{}}') <= CAST(listed.rule ->> 'max_length' AS integer)
        WHEN 'integer' THEN jsonb_typeof(stated.value) = 'number' AND stated.value #>> '{{}}' ~ '^-?[0-9]+$'
            AND stated.value BETWEEN to_jsonb(-{MAX_NUMBER}) AND to_jsonb({MAX_NUMBER})
        WHEN 'decimal' THEN jsonb_typeof(stated.value) = 'number'
            AND stated.value BETWEEN to_jsonb(-{MAX_NUMBER}) AND to_jsonb({MAX_NUMBER})
        WHEN 'boolean' THEN jsonb_typeof(stated.value) = 'boolean'
        WHEN 'date' THEN jsonb_typeof(stated.value) = 'string' AND stated.value #>> '{{}}' ~ '^(?:{DATE})$'
        WHEN 'choice' THEN jsonb_typeof(stated.value) = 'string'
            AND listed.rule -> 'choices' ? (stated.value #>> '{{}}')
        WHEN 'choices' THEN CASE WHEN jsonb_typeof(stated.value) = 'array' THEN
            jsonb_array_length(stated.value) BETWEEN 1 AND {MAX_CHOSEN}
            AND jsonb_array_length(stated.value) = (
                SELECT count(DISTINCT chosen.value) FROM jsonb_array_elements(stated.value) AS chosen (value)
            )
            AND NOT EXISTS (
                SELECT FROM jsonb_array_elements(stated.value) AS chosen (value)
                WHERE jsonb_typeof(chosen.value) <> 'string'
                    OR NOT listed.rule -> 'choices' ? (chosen.value #>> '{{}}')
            )
        END
    END
"""  # noqa: S608 -- patterns and names of this module, no value of a client
# A day that its month lacks, such as 2023-02-31, becomes another one where days are added.
_FITS_SQLITE = f"""
    CASE json_extract(listed.value, '$.type')
        WHEN 'text' THEN stated.type = 'text' AND length(stated.value) <= json_extract(listed.value, '$.max_length')
        WHEN 'integer' THEN stated.type = 'integer' AND stated.value BETWEEN -{MAX_NUMBER} AND {MAX_NUMBER}
        WHEN 'decimal' THEN stated.type IN ('integer', 'real')
            AND stated.value BETWEEN -{MAX_NUMBER} AND {MAX_NUMBER}
        WHEN 'boolean' THEN stated.type IN ('true', 'false')
        WHEN 'date' THEN stated.type = 'text' AND stated.value >= '0001'
            AND date(stated.value, '+0 days') = stated.value
        WHEN 'choice' THEN stated.type = 'text'
            AND stated.value IN (SELECT value FROM json_each(listed.value, '$.choices'))
        WHEN 'choices' THEN CASE WHEN stated.type = 'array' THEN
            json_array_length(stated.value) BETWEEN 1 AND {MAX_CHOSEN}
            AND json_array_length(stated.value) = (
                SELECT count(DISTINCT chosen.value) FROM json_each(stated.value) AS chosen
            )
            AND NOT EXISTS (
                SELECT 1 FROM json_each(stated.value) AS chosen
                WHERE chosen.type <> 'text'
                    OR chosen.value NOT IN (SELECT value FROM json_each(listed.value, '$.choices'))
            )
        END
    END
"""  # noqa: S608 -- patterns and names of this module, no value of a client


@compiles(breaks_rules, "postgresql")
def _breaks_rules_postgresql(element: breaks_rules, compiler: Any, **options: Any) -> str:
    attributes, status, rules = (compiler.process(clause, **options) for clause in element.clauses)
    # In a subquery, so that the text is read once and not for each row.
    read = f"(SELECT CAST({rules} AS jsonb))"
    return f"""(EXISTS (
        SELECT FROM jsonb_each({attributes}) AS stated (code, value)
        LEFT JOIN jsonb_each({read} -> 'listed') AS listed (code, rule) ON listed.code = stated.code
        WHERE NOT coalesce({_FITS_POSTGRESQL}, false)
    ) OR ({status} = '{ACTIVE}' AND EXISTS (
        SELECT FROM jsonb_array_elements_text({read} -> 'required') AS needed (code)
        WHERE NOT {attributes} ? needed.code
    )))"""  # noqa: S608 -- compiled clauses and constants


@compiles(breaks_rules, "sqlite")
def _breaks_rules_sqlite(element: breaks_rules, compiler: Any, **options: Any) -> str:
    attributes, status, rules = (compiler.process(clause, **options) for clause in element.clauses)
    return f"""(EXISTS (
        SELECT 1 FROM json_each({attributes}) AS stated
        LEFT JOIN json_each({rules}, '$.listed') AS listed ON listed.key = stated.key
        WHERE NOT coalesce({_FITS_SQLITE}, false)
    ) OR ({status} = '{ACTIVE}' AND EXISTS (
        SELECT 1 FROM json_each({rules}, '$.required') AS needed
        WHERE needed.value NOT IN (SELECT key FROM json_each({attributes}))
    )))"""  # noqa: S608 -- compiled clauses and constants
