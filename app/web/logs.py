"""Logs: one JSON object per line in production, readable lines in development."""

import json
import logging
import sys
from typing import Any

import orjson
import structlog


def set_up_logs(*, level: str, as_json: bool) -> None:
    """Send structlog's events of ``level`` and above to standard error."""
    threshold = logging.getLevelNamesMapping()[level]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # By default both renderers would print the local variables of every frame, which include passwords.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    renderers: list[structlog.typing.Processor]
    output: Any
    if as_json:
        renderers = [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer(_as_json)]
        output = structlog.BytesLoggerFactory(file=sys.stderr.buffer)
    else:
        plain = structlog.dev.plain_traceback
        renderers = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
        output = structlog.PrintLoggerFactory(file=sys.stderr)
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=output,
        cache_logger_on_first_use=False,
    )


def _as_json(event: dict[str, Any], **options: Any) -> bytes:
    try:
        return orjson.dumps(event, **options)
    except TypeError:
        # orjson refuses lone surrogates and integers past 64 bits, which clients do send; json escapes them.
        return json.dumps(event, **options).encode()
