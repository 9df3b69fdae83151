"""The pages of the identity provider, filled in by Chromium."""

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import url_contains
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.chromium import SECONDS
from tests.identity_provider import IdentityProvider


def log_in_at(provider: IdentityProvider, browser: Chrome, subject: str) -> None:
    """Log in as an account of the provider, and let it say so to the catalogue."""
    wait = WebDriverWait(browser, SECONDS)
    wait.until(url_contains(f"{provider.issuer}/interaction/"))
    browser.find_element(By.NAME, "login").send_keys(subject)
    browser.find_element(By.NAME, "password").send_keys("any")
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    wait.until(lambda browser: browser.find_elements(By.CSS_SELECTOR, "input[name=prompt][value=consent]"))
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
