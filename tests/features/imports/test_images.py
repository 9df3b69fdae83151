"""Pictures that rows of files state: shown when they are fetched, and faults of their rows where that fails."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from app.api.tasks import TASKS
from app.core.jobs import IS_OPEN, Job
from app.core.query_stats import QueryStats, current_stats
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.features.bulk import images as bulk_images
from app.features.exports.files import FileFormat
from app.features.imports import images as import_images
from app.features.media.models import ASSETS, TABLE
from tests.conftest import Caller, body_of, rows_of
from tests.features.conftest import Shop, png, sha256_of
from tests.features.imports.conftest import Import
from tests.features.imports.test_imports_routes import send
from tests.pictures import photo

HEADER = "sku,parent_sku,options,option.size,name,price,category,images\n"


def single(sku: str, *images: str) -> str:
    return f"{sku},,,,Chair,10.00,Chairs,{'|'.join(images)}\n"


def parent(sku: str, *images: str) -> str:
    return f"{sku},,size,,Shirt,,Shirts,{'|'.join(images)}\n"


def variant(sku: str, parent_sku: str, size: str, *images: str) -> str:
    return f"{sku},{parent_sku},,{size},,10.00,,{'|'.join(images)}\n"


def order(shop: Shop, *rows: str, query: str = "", header: str = HEADER) -> dict[str, Any]:
    """Send a file, and do what a worker does; the import as it is then."""
    return shop.order(header + "".join(rows), query=query)


def look_at(shop: Shop, import_id: int) -> dict[str, Any]:
    return body_of(shop.alice.get(f"/imports/{import_id}"))


def images_of(ordered: dict[str, Any]) -> tuple[int, int, int, int]:
    """How many pictures are named, ready, pending and failed."""
    ready, pending, failed = (ordered[f"images_{name}"] for name in ("ready", "pending", "failed"))
    return ordered["images"], ready, pending, failed


def faults(shop: Shop, ordered: dict[str, Any]) -> list[tuple[int, str, str, str]]:
    """The line, the column, the value and the code of each fault."""
    items = body_of(shop.alice.get(f"/imports/{ordered['id']}/errors?per_page=100"))["items"]
    return [(one["line"], one["column"], one["value"], one["code"]) for one in items]


class TestImages:
    def test_are_fetched_and_shown_in_their_order(self, shop: Shop) -> None:
        ordered = order(shop, single("A", shop.url(1), shop.url(2)), single("B", shop.url(2)))

        assert (ordered["status"], ordered["created"], images_of(ordered)) == ("succeeded", 2, (3, 3, 0, 0))
        assert shop.shown("A") == [sha256_of(1), sha256_of(2)]
        assert shop.product("A")["image"]["width"] == 2
        assert shop.product("B")["image"]["media_id"] != shop.product("A")["image"]["media_id"]
        assert len(shop.server.messages) == 2

    def test_of_the_same_file_again_change_nothing(self, shop: Shop) -> None:
        uploaded = shop.upload(1)
        rows = [single("A", uploaded["sha256"].upper(), shop.url(2)), parent("P", shop.url(3), shop.url(2))]
        rows += [variant("P-S", "P", "S", shop.url(4), shop.url(3)), variant("P-M", "P", "M")]
        order(shop, *rows)
        before = states(shop)

        again = order(shop, *rows)

        assert (again["unchanged"], images_of(again)) == (4, (6, 6, 0, 0))
        assert states(shop) == before

    def test_stand_before_those_that_a_product_has_beside(self, shop: Shop) -> None:
        order(shop, single("A", shop.url(1), shop.url(2), shop.url(3)))
        product, items = shop.product("A"), shop.placements("A")
        items[2]["alt"] = "From behind"
        shop.alice.put(f"/products/{product['id']}/media", items)

        ordered = order(shop, single("A", shop.url(4), sha256_of(3)), single("B"))

        assert (ordered["updated"], ordered["created"]) == (1, 1)
        assert shop.shown("A") == [sha256_of(number) for number in (4, 3, 1, 2)]
        assert [item["alt"] for item in shop.placements("A")] == ["", "From behind", "", ""]
        assert shop.product("A")["version"] == product["version"] + 2

    def test_of_an_empty_cell_stay(self, shop: Shop) -> None:
        order(shop, single("A", shop.url(1)))

        ordered = order(shop, single("A"), query="?clear_with=")

        assert (ordered["unchanged"], shop.shown("A")) == (1, [sha256_of(1)])

    def test_cannot_be_emptied(self, shop: Shop) -> None:
        order(shop, single("A", shop.url(1)))

        ordered = order(shop, single("A", "NONE"), query="?clear_with=NONE")

        assert faults(shop, ordered) == [(2, "images", "NONE", "not_clearable")]

    def test_of_variants_are_their_products_and_name_them(self, shop: Shop) -> None:
        rows = [variant("P-S", "P", "S", shop.url(3), shop.url(1)), variant("P-M", "P", "M")]

        order(shop, *rows, parent("P", shop.url(1), shop.url(2)))

        small = shop.product("P-S")
        assert shop.media_of("P") == [
            (sha256_of(1), "", [small["id"]]),
            (sha256_of(2), "", []),
            (sha256_of(3), "", [small["id"]]),
        ]
        assert small["image"] == shop.product("P")["image"]
        assert shop.product("P-M")["image"] == shop.product("P")["image"]

    def test_of_a_variant_that_is_there_come_behind_and_change_its_product(self, shop: Shop) -> None:
        order(shop, parent("P", shop.url(1)), variant("P-S", "P", "S"), variant("P-M", "P", "M"))
        before = {sku: shop.product(sku) for sku in ("P", "P-S", "P-M")}

        ordered = order(shop, f"P-S,P,{shop.url(2)}\n", header="sku,parent_sku,images\n")

        after = {sku: shop.product(sku) for sku in before}
        assert (ordered["updated"], shop.shown("P")) == (1, [sha256_of(1), sha256_of(2)])
        assert [after[sku]["version"] - before[sku]["version"] for sku in after] == [1, 0, 0]
        assert after["P-S"]["image"] != before["P-S"]["image"]
        assert after["P-M"] == before["P-M"]

    def test_that_are_ready_are_shown_at_once(self, shop: Shop, import_text: Import) -> None:
        order(shop, single("A", shop.url(1)))

        import_text(
            HEADER + single("B", shop.url(1)) + parent("P", shop.url(1)) + variant("P-S", "P", "S"), on=shop.app
        )

        assert [shop.product(sku)["image"] for sku in ("B", "P", "P-S")] == [shop.product("A")["image"]] * 3
        assert [shop.product(sku)["version"] for sku in ("B", "P", "P-S")] == [1, 1, 1]

    def test_of_ndjson_are_lists_or_texts(self, shop: Shop, import_text: Import) -> None:
        own = {"name": "Chair", "price": "1.00", "category": "C"}
        rows = [
            {"sku": "A", **own, "images": [shop.url(1)]},
            {"sku": "B", **own, "images": f"{shop.url(1)}|{shop.url(2)}"},
        ]

        report = import_text("\n".join(map(json.dumps, rows)), file_format=FileFormat.NDJSON, on=shop.app)

        assert (report.created, report.images, report.images_pending, report.errors) == (2, 3, 3, [])

    def test_of_a_dry_run_are_counted_and_leave_nothing(self, shop: Shop) -> None:
        uploaded = shop.upload(1)
        shop.work()
        before = [*states(shop), rows_of(shop.app, "jobs")]

        ordered = order(shop, single("A", uploaded["sha256"], shop.url(2), shop.url("no")), query="?dry_run=true")

        assert images_of(ordered) == (3, 1, 2, 0)
        assert [*states(shop), rows_of(shop.app, "jobs")[:-1]] == before
        assert shop.server.messages == []

    def test_may_be_a_link_that_the_product_shows(self, shop: Shop) -> None:
        order(shop, single("A"))
        link = body_of(shop.alice.post("/media", {"url": shop.url(1), "keep": "link"}))
        shop.alice.put(f"/products/{shop.product('A')['id']}/media", [{"media_id": link["id"]}])

        ordered = order(shop, single("A", shop.url(1)), single("B", shop.url(1)))

        assert (ordered["unchanged"], ordered["created"]) == (1, 1)
        assert (shop.shown("A"), shop.shown("B")) == ([shop.url(1)], [sha256_of(1)])

    def test_of_one_content_are_one_picture(self, shop: Shop) -> None:
        uploaded = shop.upload(1)

        ordered = order(shop, single("A", shop.url(1), uploaded["sha256"]), single("B", shop.url(1)))

        assert (shop.shown("A"), shop.shown("B")) == ([sha256_of(1)], [sha256_of(1)])
        assert images_of(ordered) == (3, 3, 0, 0)
        again = order(shop, single("A", shop.url(1), uploaded["sha256"]), single("B", shop.url(1)))
        assert again["unchanged"] == 2

    def test_need_no_permission_on_media_where_they_are_there(self, shop: Shop, alice: Caller) -> None:
        order(shop, single("A", shop.url(1)))
        key = body_of(alice.post("/api-keys", {"name": "erp", "scopes": ["products:write"]}))["key"]
        file = HEADER + single("A", shop.url(1)) + single("B", shop.url(2))

        headers = {"X-API-Key": key, "Content-Type": "text/csv"}
        answer = Caller(shop.app).call("POST", "/imports", data=file, headers=headers)
        shop.work()

        ordered = look_at(shop, body_of(answer)["id"])
        assert (ordered["unchanged"], ordered["failed"]) == (1, 1)
        assert [(line, code) for line, _, _, code in faults(shop, ordered)] == [(3, "media_unknown")]


class TestFaultsOfRows:
    @pytest.mark.parametrize(
        ("images", "code"),
        [
            ("0" * 64, "media_unknown"),
            ("http://10.0.0.1/a.png", "url_not_allowed"),
            ("ftp://pictures.example/a.png", "malformed"),
            ("chair.png", "malformed"),
            ("http://127.0.0.1/1.png; http://127.0.0.1/2.png", "invalid"),
            ("|".join(f"http://127.0.0.1/{number}.png" for number in range(101)), "too_many"),
        ],
        ids=lambda value: value[:40],
    )
    def test_leave_the_row_out(self, shop: Shop, images: str, code: str) -> None:
        ordered = order(shop, single("A", images), single("B"))

        [(line, column, _, found)] = faults(shop, ordered)
        assert (ordered["created"], ordered["failed"]) == (1, 1)
        assert (line, column, found) == (2, "images", code)
        assert rows_of(shop.app, "media_assets") == []

    def test_are_more_pictures_than_a_product_shows(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bulk_images, "MAX_PLACEMENTS", 9)
        urls = [shop.url(number) for number in range(6)]
        rows = [parent("P", *urls), variant("P-S", "P", "S", *urls[4:], *(shop.url(n) for n in range(6, 8)))]

        ordered = order(shop, *rows, variant("P-M", "P", "M", *(shop.url(n) for n in range(8, 10))))

        assert [(line, code) for line, _, _, code in faults(shop, ordered)] == [(4, "too_many_pictures")]
        assert len(shop.shown("P")) == 8
        assert shop.alice.get("/products/by/sku/P-M").status_code == 404

    def test_of_what_is_being_deleted_are_faults(self, shop: Shop) -> None:
        order(shop, single("A", shop.url(1)))
        with shop.app.app_context(), unit_of_work():
            db.session.execute(update(ASSETS).values(status="removing"))

        ordered = order(shop, single("B", shop.url(1)))

        assert [code for _, _, _, code in faults(shop, ordered)] == ["media_busy"]


class TestPicturesThatFail:
    def test_become_faults_of_every_row_that_names_them(self, shop: Shop) -> None:
        names = [shop.url("no"), shop.url("page")]

        ordered = order(shop, single("A", shop.url(1), names[0]), single("B", *names), single("C", shop.url(2)))

        assert (ordered["status"], ordered["created"], ordered["failed"]) == ("succeeded", 3, 0)
        assert images_of(ordered) == (5, 2, 0, 3)
        # In the order in which the two URLs failed.
        assert sorted(faults(shop, ordered)) == [
            (2, "images", names[0], "url_refused"),
            (3, "images", names[0], "url_refused"),
            (3, "images", names[1], "picture_unsupported"),
        ]
        assert shop.shown("A") == [sha256_of(1), names[0]]
        assert waiting(shop) == 0

    def test_are_in_the_column_of_the_file(self, shop: Shop) -> None:
        query = '?map={"images":"Bild"}'

        ordered = order(shop, f"A,X,1.00,C,{shop.url('no')}\n", header="sku,name,price,category,Bild\n", query=query)

        assert faults(shop, ordered) == [(2, "Bild", shop.url("no"), "url_refused")]

    def test_are_tried_again_when_they_are_named_again(self, shop: Shop) -> None:
        first = order(shop, single("A", shop.url("no")))

        second = order(shop, single("A", shop.url("no")), single("B", shop.url("no")))
        shop.server.reply(200, body=png(9))
        third = order(shop, single("A", shop.url("no")))

        assert [images_of(each) for each in (first, second, third)] == [(1, 0, 0, 1), (2, 0, 0, 2), (1, 1, 0, 0)]
        assert [len(faults(shop, each)) for each in (first, second, third)] == [1, 2, 0]
        assert (shop.shown("A"), shop.shown("B")) == ([sha256_of(9)], [sha256_of(9)])

    def test_are_faults_of_every_import_that_waits(self, shop: Shop) -> None:
        ids = []
        for sku in ("A", "B"):
            answer = send(shop.alice, HEADER + single(sku, shop.url("no")))
            ids.append(body_of(answer)["id"])
        shop.work("import")
        pending = [images_of(look_at(shop, each)) for each in ids]
        shop.work()

        assert pending == [(1, 0, 1, 0)] * 2
        assert [images_of(look_at(shop, each)) for each in ids] == [(1, 0, 0, 1)] * 2
        assert [len(faults(shop, {"id": each})) for each in ids] == [1, 1]

    def test_as_another_that_has_their_content_count_as_that(self, shop: Shop) -> None:
        broken = png(1)[:-28]
        shop.server.reply(200, body=broken)
        order(shop, single("A", shop.url(1)))

        ordered = order(shop, single("B", shop.url(2)))

        assert images_of(ordered) == (1, 0, 0, 1)
        assert faults(shop, ordered) == [(2, "images", shop.url(2), "picture_unreadable")]
        assert waiting(shop) == 0

    def test_as_another_that_is_rendered_again_are_waited_for(self, shop: Shop) -> None:
        # Its header is sound.
        content = photo(300, 200)[:2000]
        shop.server.reply(200, body=content)
        assert (
            shop.alice.call("POST", "/media", data=content, headers={"Content-Type": "image/jpeg"}).status_code == 201
        )
        shop.work()
        ordered = body_of(send(shop.alice, HEADER + single("B", shop.url(2))))
        shop.work("import")

        # It is found to be the other one, which then fails again.
        assert Worker({"media": TASKS["media"]}, shop.app.app_context).work()
        shop.work("media_settling")
        before = images_of(look_at(shop, ordered["id"]))
        shop.work()

        assert (before, images_of(look_at(shop, ordered["id"]))) == ((1, 0, 1, 0), (1, 0, 0, 1))
        assert waiting(shop) == 0

    def test_are_counted_beyond_those_that_are_kept(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_images, "MAX_ERRORS", 3)
        monkeypatch.setattr(import_images, "BATCH", 2)

        ordered = order(shop, *(single(sku, shop.url("no")) for sku in "ABCDE"), single("F", "x"))

        assert images_of(ordered) == (5, 0, 0, 5)
        assert [line for line, _, _, _ in faults(shop, ordered)] == [2, 3, 7]
        assert waiting(shop) == 0


class TestManyRows:
    def test_with_three_pictures_each_cost_as_many_statements_as_one(self, shop: Shop, import_text: Import) -> None:
        def cost_of(numbers: Sequence[int]) -> int:
            rows = [single(f"S{n}", *(f"http://127.0.0.1/{n}/{k}.png" for k in range(3))) for n in numbers]
            token = current_stats.set(counted := QueryStats())
            try:
                report = import_text(HEADER + "".join(rows), on=shop.app)
            finally:
                current_stats.reset(token)
            assert (report.failed, report.images) == (0, 3 * len(numbers))
            return counted.statements

        few, many = cost_of([0]), cost_of(range(1, 301))
        again = cost_of(range(1, 301))

        assert many <= few <= 30
        assert again <= few


class TestTwoAtOnce:
    def test_make_one_asset_for_each_url(self, shop: Shop, import_text: Import) -> None:
        order(shop, single("Z", shop.url("no")))
        urls = [*(f"http://127.0.0.1/{number}.png" for number in range(40)), shop.url("no")]

        def read(letter: str) -> int:
            rows = [single(f"{letter}{n}", url) for n, url in enumerate(urls if letter < "C" else urls[::-1])]
            return import_text(HEADER + "".join(rows), on=shop.app, rows_per_chunk=20).created

        with ThreadPoolExecutor(4) as threads:
            created = list(threads.map(read, "ABCD"))

        assert created == [41] * 4
        assert len(rows_of(shop.app, "media_assets")) == 41
        assert len({key for key in keys_of_jobs(shop) if key.startswith("media:")}) == 41


def keys_of_jobs(shop: Shop) -> list[str]:
    """The keys of the jobs that have not ended."""
    with shop.app.app_context(), unit_of_work(reading=True):
        return list(db.session.scalars(select(Job.key).where(Job.key.is_not(None), IS_OPEN)))


def states(shop: Shop) -> list[list[tuple[Any, ...]]]:
    """What an import that changes nothing leaves as it is."""
    return [*(rows_of(shop.app, table) for table in ("products", "media_assets")), placements(shop)]


def placements(shop: Shop) -> list[tuple[Any, ...]]:
    with shop.app.app_context(), unit_of_work(reading=True):
        return [tuple(row) for row in db.session.execute(select(TABLE).order_by(TABLE.c.product_id, TABLE.c.position))]


def waiting(shop: Shop) -> int:
    """How many rows wait for a picture."""
    with shop.app.app_context(), unit_of_work(reading=True):
        return len(db.session.execute(select(import_images.WAITING)).all())
