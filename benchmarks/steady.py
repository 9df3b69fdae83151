"""A steady mix of requests at a fixed rate, whether or not the ones before were answered (an open loop)."""

import http.client
import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.load import Request
from benchmarks.results import Steady

#: Requests a second.
RATE = 100
_CLIENTS = 32


def run(port: int, requests: Iterator[Request], token: str, *, seconds: int) -> Steady:
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
            good = _send(connection, request, token, number)
            answered.append((time.perf_counter() - moment, good))

    with ThreadPoolExecutor(_CLIENTS) as clients:
        sending = [clients.submit(send_in_turn) for _ in range(_CLIENTS)]
        answered = [answer for client in sending for answer in client.result()]
    waits = [wait * 1000 for wait, _ in answered]
    percentiles = statistics.quantiles(waits, n=100)
    errors = sum(not good for _, good in answered)
    return Steady(len(waits), errors, percentiles[49], percentiles[98])


def _send(connection: http.client.HTTPConnection, request: Request, token: str, number: int) -> bool:
    body = request.body.replace("@", f"steady-{number}") or None
    headers = {"Authorization": f"Bearer {token}"} | ({"Content-Type": "application/json"} if body else {})
    try:
        connection.request("POST" if body else "GET", request.path, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return False
    return answer.status == (201 if body else 200)
