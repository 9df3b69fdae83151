"""What must not stand in logs, metrics and traces: secrets, e-mail addresses and search texts.

Secrets and addresses have forms that nothing else has, so that a text is searched for the forms, whatever a test has
sent. Search texts have none: tests that are about them search for `SEARCHED`. tests/no_leaks.py looks at every test.
"""

import re

import pytest

#: What tests search for where they ask whether a search text is written anywhere; no other text contains it.
SEARCHED = "quagga"

_TOKEN = r"\beyJ[\w-]{8,}\.[\w-]{8,}"
#: `app.security.api_keys` and `app.security.signatures` make them; tests/test_leaks.py compares.
_API_KEY = r"\bca[ts]_[1-9]\d*_[0-9A-Za-z]{40}\b"
_WEBHOOK_SECRET = r"\bwhsec_[\w+/=-]{16,}"
#: itsdangerous signs a JSON list, whose base64 begins with W: content, time and signature.
_RESET_TOKEN = r"\bW[\w-]{12,}\.[\w-]{6}\.[\w-]{27,}"
_PASSWORD_HASH = r"\$argon2id?\$"
#: Every password of the cast has these words.
_PASSWORD = r"horse(?: |\+|%20|-)battery"
_ADDRESS = r"[\w.+%-]+(?:@|%40)[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b"
#: Of applications in tests (`settings_for`) and of the servers in tests/live.
_KEYS = r"s{32}|j{32}|Zm9yIHNpZ25pbmcg|YW5kIHRoaXMgb25l|t0ken-0f-the-metrics"
_FORMS = {
    "a token": _TOKEN,
    "an API key or the secret of an app": _API_KEY,
    "the secret of a webhook": _WEBHOOK_SECRET,
    "a reset token": _RESET_TOKEN,
    "the hash of a password": _PASSWORD_HASH,
    "a password": _PASSWORD,
    "an e-mail address": _ADDRESS,
    "a key of the settings": _KEYS,
    "a search text": SEARCHED,
}
_LEAK = re.compile("|".join(f"(?P<form_{number}>{form})" for number, form in enumerate(_FORMS.values())), re.IGNORECASE)
_NAMES = dict(zip((f"form_{number}" for number in range(len(_FORMS))), _FORMS, strict=True))


def leaks_in(text: str) -> list[str]:
    """What each line of a text should not say, with the line."""
    return [
        f"{_NAMES[str(found.lastgroup)]}: {line.strip()}"
        for line in text.splitlines()
        if (found := _LEAK.search(line)) is not None
    ]


def require_no_leak(text: str, place: str) -> None:
    """Fail where a text says what it should not; ``place`` is where it was found."""
    if leaks := leaks_in(text):
        pytest.fail(f"{place} has {len(leaks)} lines that must not be there, such as\n" + "\n".join(leaks[:5]))
