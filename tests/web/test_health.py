"""The probes: what each says, to whom, and what it costs."""

from config import VERSION
from tests.conftest import Caller, body_of, on_one_database


@on_one_database
class TestHealth:
    def test_says_which_release_runs(self, anonymous: Caller) -> None:
        answer = anonymous.get("//health")

        assert body_of(answer) == {"status": "ok", "version": VERSION, "commit": "unknown"}
        assert "ETag" not in answer.headers

    def test_of_liveness_says_no_more_than_that_it_is_alive(self, anonymous: Caller) -> None:
        assert body_of(anonymous.get("//livez")) == {"status": "ok"}
