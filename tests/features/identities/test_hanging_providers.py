"""Many identity providers that hang at once, as they do when this server cannot reach the internet."""

import threading
from collections.abc import Callable
from dataclasses import replace

from flask import Flask

from tests.conftest import API, on_one_database
from tests.features.identities.conftest import provider
from tests.issuer import Issuer

DISCOVERY = "/.well-known/openid-configuration"
THREADS = 3


@on_one_database
def test_leave_a_thread_of_a_worker_for_others(app_with: Callable[..., Flask], issuer: Issuer) -> None:
    names = ("first", "second", "third", "fourth")
    offered = {name: replace(provider(issuer), name=name) for name in names}
    app = app_with(oidc_providers=offered, web_threads=THREADS, webhook_allowed_private_hosts=("127.0.0.1",))
    issuer.fail(DISCOVERY, 200, {}, seconds=1.0)

    def begin(name: str) -> None:
        assert app.test_client().get(f"{API}/auth/oidc/{name}").status_code == 503

    threads = [threading.Thread(target=begin, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert issuer.counted(DISCOVERY) == THREADS - 1
