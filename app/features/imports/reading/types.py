"""The values of attributes in cells, by the types of the attributes."""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from app.features.attributes.models import AttributeType
from app.features.exports.files import split_tags
from app.features.imports.reading.amounts import NumberReader
from app.features.imports.reading.cells import MAX_DIGITS, Cell, boolean
from app.features.imports.reading.options import Reading
from app.features.product_types.rules import Definition


class TypedCells:
    """Gives the cells of attributes and options their types; what is no value of its type stays a text.

    An attribute that has no definition is a text.
    """

    def __init__(self, reading: Reading, definitions: Mapping[str, Definition]) -> None:
        self._numbers, self._definitions = NumberReader(reading), definitions
        self._conversions: Mapping[AttributeType, Callable[[str], Any]] = {
            AttributeType.INTEGER: self._numbers.integer,
            AttributeType.DECIMAL: self._decimal,
            AttributeType.BOOLEAN: boolean,
            AttributeType.CHOICES: split_tags,
        }

    def convert(self, values: dict[str, Any]) -> None:
        """Convert the cells among the attributes and the options of a row."""
        for member in ("attributes", "options"):
            named = values.get(member)
            if isinstance(named, dict):
                cells = {name: value for name, value in named.items() if isinstance(value, Cell)}
                named.update({name: self._value(name, str(cell)) for name, cell in cells.items()})

    def _value(self, name: str, cell: str) -> Any:
        definition = self._definitions.get(name)
        convert = self._conversions.get(definition.type) if definition is not None else None
        return cell if convert is None else convert(cell)

    def _decimal(self, cell: str) -> Any:
        try:
            number = Decimal(self._numbers.amount(cell).text)
        except InvalidOperation:
            return cell
        if not number.is_finite() or len(number.as_tuple().digits) > MAX_DIGITS:
            return cell
        return int(number) if number == number.to_integral_value() else float(number)
