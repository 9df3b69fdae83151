"""Clients that each wait for an answer before they send the next request, and read what it says of its queries."""

import http.client
import re
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

#: The number of statements in a response's Server-Timing.
_QUERIES = re.compile(r'desc="([0-9]+) queries"')
_STATUSES = {"GET": 200, "PATCH": 200, "POST": 201}


class BadAnswer(Exception):
    """A request was not answered as it should be."""


@dataclass(frozen=True)
class Call:
    """A request; ``kind`` is what it is counted under."""

    kind: str
    method: str
    path: str
    body: str = ""


@dataclass(frozen=True)
class Answered:
    """A good answer: to which kind of request, when, and after how many statements."""

    kind: str
    moment: float
    queries: int


def replay(port: int, calls: Iterable[Call], tokens: Sequence[str]) -> list[Answered]:
    """Send the calls in turn over as many connections as there are tokens, one token each.

    Raises ``BadAnswer`` for the first answer that has another status than its method's; then nothing more is sent.
    """
    turn, following, over = threading.Lock(), iter(calls), threading.Event()

    def send_in_turn(token: str) -> list[Answered]:
        answered = []
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            while not over.is_set():
                with turn:
                    call = next(following, None)
                if call is None:
                    break
                answered.append(_send(connection, call, token))
        except BaseException:
            over.set()
            raise
        finally:
            connection.close()
        return answered

    with ThreadPoolExecutor(len(tokens)) as clients:
        sending = [clients.submit(send_in_turn, token) for token in tokens]
    return [answer for client in sending for answer in client.result()]


def _send(connection: http.client.HTTPConnection, call: Call, token: str) -> Answered:
    headers = {"Authorization": f"Bearer {token}"}
    if call.body:
        headers |= {"Content-Type": "application/json"}
    if call.method == "PATCH":
        headers |= {"If-Match": "*"}
    connection.request(call.method, call.path, body=call.body or None, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    queries = _QUERIES.search(answer.headers.get("Server-Timing", ""))
    if answer.status != _STATUSES[call.method] or queries is None:
        raise BadAnswer(f"{call.method} {call.path} {call.body}: {answer.status} {content.decode(errors='replace')}")
    return Answered(call.kind, time.monotonic(), int(queries[1]))
