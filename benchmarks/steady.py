"""A steady mix of requests at a fixed rate, whether or not the ones before were answered (an open loop)."""

import http.client
import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.results import Steady

#: Requests a second.
RATE = 100
_CLIENTS = 32


@dataclass(frozen=True)
class Request:
    """One request of the mix, and the status that is right."""

    method: str
    path: str
    headers: dict[str, str]
    body: str | None = None
    status: int = 200


def mix(token: str, lists: Sequence[str], details: Sequence[str], product: dict[str, object]) -> Iterator[Request]:
    """Of ten requests three are lists, three details, three the same list again and one creates a product."""
    headers = {"Authorization": f"Bearer {token}"}
    many_lists, many_details = itertools.cycle(lists), itertools.cycle(details)
    for number in itertools.count():
        if number % 10 == 9:
            body = json.dumps({**product, "sku": f"STEADY-{number}"})
            yield Request("POST", "/api/v1/products", {**headers, "Content-Type": "application/json"}, body, 201)
        else:
            paths = (next(many_lists), next(many_details), lists[0])
            yield Request("GET", paths[number % 3], headers)


def run(port: int, requests: Iterator[Request], *, seconds: int) -> Steady:
    """Send requests at their times for some seconds. Waiting counts from the time at which a request was due."""
    due = enumerate(itertools.islice(requests, RATE * seconds))
    turn = threading.Lock()
    started = time.perf_counter() + 0.2

    def send_in_turn() -> list[tuple[float, bool]]:
        answered: list[tuple[float, bool]] = []
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while True:
            with turn:
                following = next(due, None)
            if following is None:
                connection.close()
                return answered
            number, request = following
            moment = started + number / RATE
            time.sleep(max(0.0, moment - time.perf_counter()))
            good = _send(connection, request)
            answered.append((time.perf_counter() - moment, good))

    with ThreadPoolExecutor(_CLIENTS) as clients:
        sending = [clients.submit(send_in_turn) for _ in range(_CLIENTS)]
        answered = [answer for client in sending for answer in client.result()]
    waits = [wait * 1000 for wait, _ in answered]
    percentiles = statistics.quantiles(waits, n=100)
    errors = sum(not good for _, good in answered)
    return Steady(len(waits), errors, percentiles[49], percentiles[98])


def _send(connection: http.client.HTTPConnection, request: Request) -> bool:
    try:
        connection.request(request.method, request.path, body=request.body, headers=request.headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return False
    return answer.status == request.status
