"""Logs: one JSON object per line in production, readable lines in development."""

import json
import logging
import os
import re
import sys
from typing import Any

import orjson
import structlog

#: What PostgreSQL adds to the message of an error quotes the row: `DETAIL:  Failing row contains (1, eve@...)`.
_QUOTED_ROWS = re.compile(r"\n(?:DETAIL|CONTEXT): .*?(?=\n(?:HINT|\[SQL)|\Z)", re.DOTALL)


def set_up_logs(*, level: str, as_json: bool) -> None:
    """Send structlog's events of ``level`` and above to standard error."""
    threshold = logging.getLevelNamesMapping()[level]
    # At DEBUG it logs the tokens that it issues.
    logging.getLogger("authlib").setLevel(logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[structlog.typing.Processor]
    output: Any
    if as_json:
        renderers = [
            structlog.processors.ExceptionRenderer(_describe_exception),
            structlog.processors.JSONRenderer(_as_json),
        ]
        output = structlog.BytesLoggerFactory(file=sys.stderr.buffer)
    else:
        # https://no-color.org: a variable that is set, and not to nothing.
        renderers = [Console(is_coloured=sys.stderr.isatty() and not os.environ.get("NO_COLOR"))]
        output = structlog.PrintLoggerFactory(file=sys.stderr)
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=output,
        cache_logger_on_first_use=False,
    )


class Console:
    """Renders events for a developer's terminal: a request as one short line, and others as structlog does."""

    #: ANSI colours by the first digit of the status.
    COLOURS = {2: "32", 3: "36", 4: "33", 5: "1;31"}

    def __init__(self, *, is_coloured: bool) -> None:
        plain = structlog.dev.plain_traceback
        self._is_coloured = is_coloured
        self._render = structlog.dev.ConsoleRenderer(colors=is_coloured, exception_formatter=plain)

    def __call__(
        self, logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
    ) -> str | bytes:
        """The line of an event; `POST /api/v1/products 409 21 ms 5 q req=1c58d087` of a request."""
        if event["event"] != "request":
            return self._render(logger, name, event)
        status = self._coloured(event["status"])
        counts = f"{event['ms']:.0f} ms {event['queries']} q"
        return f"{event['method']} {event['path']} {status} {counts} req={event['request_id'][:8]}"

    def _coloured(self, status: int) -> str:
        colour = self.COLOURS.get(status // 100)
        return f"\x1b[{colour}m{status}\x1b[0m" if self._is_coloured and colour else str(status)


# By default both renderers would print the local variables of every frame, which include passwords.
_transform_exception = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def _describe_exception(exc_info: structlog.typing.ExcInfo) -> list[dict[str, Any]]:
    stacks = _transform_exception(exc_info)
    for stack in stacks:
        stack["exc_value"] = _QUOTED_ROWS.sub("", stack["exc_value"])
    return stacks


def _as_json(event: dict[str, Any], **options: Any) -> bytes:
    try:
        return orjson.dumps(event, **options)
    except TypeError:
        # orjson refuses lone surrogates and integers past 64 bits, which clients do send; json escapes them.
        return json.dumps(event, **options).encode()
