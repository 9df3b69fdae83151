"""Every metric that a process counts by itself, for Prometheus; `features.monitoring` adds what the database knows.

Names, units and types are OpenMetrics'. Each label has few values, whatever clients ask for: a path is the rule of its
route, a status its class. What is counted here is added up over the processes of a server (`docs/metrics.md`).
All of it is thread-safe.
"""

from prometheus_client import Counter, Gauge, Histogram

from app.core import exposition  # noqa: F401 -- it decides where these metrics are counted, before they are made

#: Seconds. Most responses take a few milliseconds, and a statement may take five seconds.
REQUEST_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
#: Seconds. A mail takes a tenth of one, an import up to an hour.
JOB_BUCKETS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)

# --- Requests
REQUEST_DURATION = Histogram(
    "catalog_http_request_duration_seconds",
    "Requests by route, method and class of status, and how long each took until its response was ready.",
    ("route", "method", "status"),
    buckets=REQUEST_BUCKETS,
)
REQUESTS_IN_PROGRESS = Gauge(
    "catalog_http_requests_in_progress", "Requests that are being answered.", multiprocess_mode="livesum"
)
REQUESTS_REFUSED = Counter(
    "catalog_http_requests_refused", "What the server refused before it was a whole request, by status.", ("status",)
)

# --- Database
STATEMENTS = Counter("catalog_database_statements", "Statements that the database answered.")
STATEMENT_SECONDS = Counter("catalog_database_statement_seconds", "Seconds that statements took.")
DATABASE_ERRORS = Counter(
    "catalog_database_errors",
    "Errors of the database, by the class of their SQLSTATE (SQLite: the name of the result code).",
    ("sqlstate_class",),
)
CONNECTIONS_OPEN = Gauge(
    "catalog_database_connections_open", "Connections to the database.", multiprocess_mode="livesum"
)
CONNECTIONS_IN_USE = Gauge(
    "catalog_database_connections_in_use", "Connections that are checked out of the pool.", multiprocess_mode="livesum"
)

# --- Rate limits and the response cache
RATE_LIMIT_DECISIONS = Counter(
    "catalog_rate_limit_decisions", "Requests that a rate limit let through or refused.", ("limit", "decision")
)
# With a label, since a gauge without one is exported as 0 from the start, also where there is no Redis.
REDIS_UP = Gauge(
    "catalog_redis_up",
    "1 where Redis counts the rate limits, 0 where a process counts its own meanwhile.",
    ("purpose",),
    multiprocess_mode="livemin",
)
CACHE_LOOKUPS = Counter("catalog_response_cache_lookups", "Responses that were looked up in the cache.", ("result",))
CACHE_BYTES = Gauge("catalog_response_cache_bytes", "Bytes that cached responses occupy.", multiprocess_mode="livesum")

# --- Jobs, what leaves the house, pictures
JOB_DURATION = Histogram(
    "catalog_job_duration_seconds",
    "Runs of jobs by kind and the status that the job had afterwards, and how long each took.",
    ("kind", "status"),
    buckets=JOB_BUCKETS,
)
OUTBOUND_DURATION = Histogram(
    "catalog_outbound_request_duration_seconds",
    "Attempts of requests to foreign URLs, by class of status or name of the error.",
    ("outcome",),
    buckets=REQUEST_BUCKETS,
)
WEBHOOK_DELIVERIES = Counter("catalog_webhook_deliveries", "Attempts to deliver a message, by outcome.", ("outcome",))
STREAMS = Gauge("catalog_streams", "Live streams that are open.", ("transport",), multiprocess_mode="livesum")
MEDIA_PROCESSED = Counter("catalog_media_processed", "Pictures that were processed, by outcome.", ("outcome",))

# --- People and searches
LOGINS = Counter("catalog_logins", "Attempts to log in, by outcome.", ("outcome",))
SEARCHES = Counter("catalog_searches", "Searches for products, by whether they found any.", ("outcome",))

# --- Versions
DEPRECATED_CALLS = Counter(
    "catalog_deprecated_calls",
    "Calls of what is deprecated, by the kind of the principal and the id of its API key.",
    ("operation", "item", "principal", "api_key_id"),
)


def count_refused(status: int) -> None:
    """Count what the server refused with this status before it was a whole request."""
    REQUESTS_REFUSED.labels(str(status)).inc()
