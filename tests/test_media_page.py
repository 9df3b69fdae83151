"""What docs/media.md says of refusals, statuses, widths and limits."""

import inspect
import re
from types import ModuleType

import pytest

from app.features.media import fetching, images, processing
from app.features.media import routes as media
from app.features.media.fetching import MediaUnfetchable
from app.features.media.models import MAX_ALT_LENGTH, MAX_PLACEMENTS, MAX_URL_LENGTH, SHOWN, MediaLost
from app.features.placements import routes as placements
from app.web.errors import status_of
from app.web.operation import operation_of
from config import Config
from tests.servers import PROJECT

PAGE = (PROJECT / "docs" / "media.md").read_text("utf-8")
CODES = {
    code: int(status)
    for codes, status in re.findall(r"^\| (`.+`) \| (4\d\d|503) \|", PAGE, re.MULTILINE)
    for code in re.findall(r"`(\w+)`", codes)
}


@pytest.mark.parametrize(
    "view", [media.add_media, media.delete_media, placements.replace_media_of_product], ids=lambda view: view.__name__
)
def test_has_each_refusal_with_its_status(view: object) -> None:
    # What is wrong with a URL has codes of its own.
    refusals = {refusal for refusal in operation_of(view).refuses if refusal is not MediaUnfetchable}

    assert {refusal.code(): status_of(refusal) for refusal in refusals}.items() <= CODES.items()


@pytest.mark.parametrize("module", [fetching, processing], ids=lambda module: module.__name__)
def test_has_each_reason_of_a_failure(module: ModuleType) -> None:
    listed = set(re.findall(r"`(\w+)`", PAGE.split("| `error_code` | means |")[1]))

    assert set(re.findall(r'"((?:url|media)_(?!id\b)\w+)"', inspect.getsource(module))) <= listed
    assert MediaLost.code() in listed


def test_has_the_statuses_the_widths_and_what_is_taken() -> None:
    *narrow, widest = images.WIDTHS
    taken = [each.partition("/")[2].upper() for each in images.TAKEN]

    assert re.findall(r"^\| `(\w+)` \|", PAGE.split("## Place")[0], re.MULTILINE) == ["status", *SHOWN]
    assert f"{', '.join(map(str, narrow))} and {widest} pixels" in PAGE
    assert set(PAGE.split(" are taken")[0].splitlines()[-1].upper().replace(" AND ", ", ").split(", ")) == set(taken)


def test_has_the_limits() -> None:
    megabytes, pixels = Config.max_media_bytes // 2**20, Config.max_media_pixels // 10**6

    assert f"`MAX_MEDIA_BYTES` ({megabytes} MiB), a picture `MAX_MEDIA_PIXELS` ({pixels} million" in PAGE
    assert f"a side {images.MAX_SIDE:,} pixels, an animation {images.MAX_FRAMES:,} frames" in PAGE
    shown = f"A product shows {MAX_PLACEMENTS} pictures, `alt` has {MAX_ALT_LENGTH} characters, a URL {MAX_URL_LENGTH}"
    assert shown in PAGE
