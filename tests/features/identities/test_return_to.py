"""Where a login may lead to on this server: not to what leads browsers on to other sites."""

import pytest

from tests.conftest import on_one_database
from tests.features.identities.conftest import Browser

CONSENT = "/api/v1/oauth/authorize"

pytestmark = on_one_database


class TestThePageForConsent:
    @pytest.mark.parametrize(
        "path",
        [
            "/api/v1/oauth/%61uthorize",
            "/%61pi/v1/oauth/authorize",
            "/%2Fapi/v1/oauth/authorize",
            "/api/v1%2Foauth%2Fauthorize",
            f"{CONSENT}/",
            f"{CONSENT}/login",
        ],
    )
    def test_has_one_spelling(self, browser: Browser, path: str) -> None:
        # By another one it would be led to with a token in the fragment, which its redirect takes to the app's site.
        assert browser.begin(return_to=f"{path}?client_id=app_1").status_code == 422

    def test_is_led_to_without_a_token(self, browser: Browser) -> None:
        page = f"{CONSENT}?client_id=app_1"

        answer = browser.log_in(query={"return_to": page}, sub="1", email="dave@example.com", email_verified=True)

        assert answer.headers["Location"] == page


class TestTheApi:
    @pytest.mark.parametrize("path", ["/api/v1/auth/oidc/other", "/api/", "/api/v1/products/by-slug/%78"])
    def test_is_no_page(self, browser: Browser, path: str) -> None:
        assert browser.begin(return_to=path).status_code == 422

    @pytest.mark.parametrize("path", ["/apis", "/docs?next=/api/", "/docs/api/"])
    def test_is_not_what_resembles_it(self, browser: Browser, path: str) -> None:
        assert browser.begin(return_to=path).status_code == 303
