"""Many writers at once: nothing is lost, nothing is doubled, and nobody is answered with a fault of ours."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.conftest import PASSWORD, Caller
from tests.live.conftest import Site
from tests.live.wire import API, Answer, Client, at_once

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

CROWD = 64


def statuses(answers: list[Answer]) -> Counter[int]:
    """How often each status came, once it is sure that none is a fault of ours."""
    for answer in answers:
        assert answer.status < 500, answer.body
    return Counter(answer.status for answer in answers)


def codes(answers: list[Answer], status: int) -> set[str]:
    """The codes of the problems with this status."""
    return {answer.code for answer in answers if answer.status == status}


def product_in(category: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"name": "Chair", "price": "10.00", "category_id": category["id"], **members}


class TestEverythingAtOnce:
    """64 threads that create, edit and delete products and categories."""

    def test_keeps_every_write_that_was_acknowledged(
        self, root: Caller, connect: Connect, make_category: Make, make_product: Make
    ) -> None:
        shop = make_category(name="Shop")
        shared = [make_product(attributes={"edits": 0}) for _ in range(16)]
        edits: Counter[int] = Counter()
        kept: list[int] = []
        gone: list[int] = []
        answers: list[Answer] = []

        def work(number: int, client: Client) -> None:
            chance = random.Random(number)
            category = client.post("/categories", {"name": "Corner", "parent_id": shop["id"]})
            answers.append(category)
            home = category.json if category.status == 201 else shop
            product = client.post("/products", product_in(home, sku=f"SKU-{number // 2}"))
            answers.append(product)
            mine = [product] if product.status == 201 else []
            mine.append(client.post("/products", product_in(home)))
            answers.append(mine[-1])

            target = shared[number % len(shared)]
            while (answer := count_up(client, target["id"])).status == 412:
                answers.append(answer)
            answers.append(answer)
            edits[target["id"]] += answer.status == 200

            for made in mine:
                path = f"/products/{made.json['id']}"
                renamed = client.patch(path, {"name": f"Chair {number}"}, if_match=made.etag)
                answers.append(renamed)
                if chance.random() < 0.5:
                    answers.append(client.delete(path, if_match=renamed.etag))
                    gone.append(made.json["id"])
                else:
                    kept.append(made.json["id"])
            if category.status == 201:
                answers.append(client.delete(f"/categories/{home['id']}"))

        at_once([partial(work, number, connect(root)) for number in range(CROWD)])

        assert set(statuses(answers)) <= {200, 201, 204, 409, 412}
        assert codes(answers, 409) <= {"sku_taken", "slug_taken", "category_in_use"}
        reader = connect(root)
        for product in shared:
            now = reader.get(f"/products/{product['id']}").json
            assert now["attributes"]["edits"] == edits[product["id"]]
            assert now["version"] == 1 + edits[product["id"]]
        assert sum(edits.values()) == CROWD
        living = everything(reader, "/products")
        assert {product["id"] for product in living} == {*kept, *(product["id"] for product in shared)}
        assert all(reader.get(f"/products/{product_id}").status == 404 for product_id in gone)
        assert len({product["sku"] for product in living}) == len(living)
        categories = everything(reader, "/categories")
        assert len({category["slug"] for category in categories}) == len(categories)
        assert {product["category_id"] for product in living} <= {category["id"] for category in categories}


def count_up(client: Client, product_id: int) -> Answer:
    """Add one to a counter that is kept in the product, if nobody else does meanwhile."""
    before = client.get(f"/products/{product_id}")
    count = before.json["attributes"]["edits"] + 1
    return client.patch(f"/products/{product_id}", {"attributes": {"edits": count}}, if_match=before.etag)


def everything(client: Client, path: str) -> list[dict[str, Any]]:
    """Every item of a collection."""
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(f"{path}?per_page=100&sort_by=id&cursor={cursor}").json
        items += page["items"]
        cursor = page["meta"]["next_cursor"]
    return items


class TestEditing:
    def test_loses_no_update(self, alice: Caller, connect: Connect, make_product: Make) -> None:
        products = [make_product(attributes={"edits": 0}) for _ in range(8)]

        def work(product_id: int, client: Client) -> list[Answer]:
            answers = []
            for _ in range(2):
                answers.append(count_up(client, product_id))
                while answers[-1].status == 412:
                    answers.append(count_up(client, product_id))
            return answers

        turns = [product["id"] for product in products] * (CROWD // len(products))
        answers = at_once([partial(work, product_id, connect(alice)) for product_id in turns])

        assert set(statuses(list(itertools.chain(*answers)))) <= {200, 412}
        reader = connect(alice)
        for product in products:
            now = reader.get(f"/products/{product['id']}").json
            assert now["attributes"]["edits"] == 2 * CROWD // len(products)
            assert now["version"] == 1 + 2 * CROWD // len(products)

    @pytest.mark.parametrize("collection", ["products", "categories"])
    def test_with_one_etag_succeeds_once(
        self, alice: Caller, connect: Connect, make_product: Make, make_category: Make, collection: str
    ) -> None:
        row = make_product() if collection == "products" else make_category()
        path = f"/{collection}/{row['id']}"

        answers = at_once([partial(connect(alice).patch, path, {"name": f"Name {n}"}, '"1"') for n in range(16)])

        assert statuses(answers) == {200: 1, 412: 15}
        winner = next(answer for answer in answers if answer.status == 200)
        now = connect(alice).get(path)
        assert now.json == winner.json
        assert now.etag == ('"2.0"' if collection == "products" else '"2"')

    @pytest.mark.parametrize("collection", ["products", "categories"])
    def test_over_whatever_is_there_succeeds_each_time(
        self, alice: Caller, connect: Connect, make_product: Make, make_category: Make, collection: str
    ) -> None:
        row = make_product() if collection == "products" else make_category()
        path = f"/{collection}/{row['id']}"

        answers = at_once([partial(connect(alice).patch, path, {"name": f"Name {n}"}) for n in range(16)])

        assert statuses(answers) == {200: 16}
        assert sorted(answer.json["version"] for answer in answers) == list(range(2, 18))
        assert connect(alice).get(path).etag == ('"17.0"' if collection == "products" else '"17"')

    def test_of_ones_own_account_with_one_etag_succeeds_once(self, bob: Caller, connect: Connect) -> None:
        names = [{"username": f"bob-{n}"} for n in range(16)]

        answers = at_once([partial(connect(bob).patch, "/users/me", name, '"1"') for name in names])

        assert statuses(answers) == {200: 1, 412: 15}

    def test_attributes_are_merged_and_not_overwritten(
        self, alice: Caller, connect: Connect, make_product: Make
    ) -> None:
        path = f"/products/{make_product()['id']}"

        at_once([partial(connect(alice).patch, path, {"attributes": {f"k{n}": n}}) for n in range(16)])

        assert connect(alice).get(path).json["attributes"] == {f"k{n}": n for n in range(16)}


class TestCreating:
    def test_one_sku_is_taken_once(self, alice: Caller, connect: Connect, make_category: Make) -> None:
        content = product_in(make_category(), sku="CHAIR-1")

        answers = at_once([partial(connect(alice).post, "/products", content) for _ in range(CROWD)])

        assert statuses(answers) == {201: 1, 409: CROWD - 1}
        assert codes(answers, 409) == {"sku_taken"}
        assert connect(alice).get("/products?sku=CHAIR-1").json["meta"]["total"] == 1

    def test_a_sku_is_taken_once_by_renaming(self, alice: Caller, connect: Connect, make_product: Make) -> None:
        paths = [f"/products/{make_product()['id']}" for _ in range(16)]

        answers = at_once([partial(connect(alice).patch, path, {"sku": "CHAIR-1"}) for path in paths])

        assert statuses(answers) == {200: 1, 409: 15}
        assert codes(answers, 409) == {"sku_taken"}

    def test_one_slug_is_taken_once(self, alice: Caller, connect: Connect) -> None:
        content = {"name": "Chairs", "slug": "chairs"}

        answers = at_once([partial(connect(alice).post, "/categories", content) for _ in range(CROWD)])

        assert statuses(answers) == {201: 1, 409: CROWD - 1}
        assert codes(answers, 409) == {"slug_taken"}

    def test_slugs_made_of_one_name_differ(self, alice: Caller, connect: Connect) -> None:
        answers = at_once([partial(connect(alice).post, "/categories", {"name": "Chairs"}) for _ in range(CROWD)])

        assert set(statuses(answers)) <= {201, 409}
        assert codes(answers, 409) <= {"slug_taken"}
        made = [answer.json["slug"] for answer in answers if answer.status == 201]
        assert "chairs" in made
        assert len(set(made)) == len(made)
        assert sorted(made) == sorted(category["slug"] for category in everything(connect(alice), "/categories"))

    def test_skus_made_of_ids_differ_even_where_somebody_took_them_before(
        self, alice: Caller, connect: Connect, make_product: Make, make_category: Make
    ) -> None:
        newest = make_product()["id"]
        taken = {f"P-{newest + ahead}" for ahead in (10, 20, 30)}
        for sku in taken:
            make_product(sku=sku)
        content = product_in(make_category())

        answers = at_once([partial(connect(alice).post, "/products", content) for _ in range(CROWD)])

        assert statuses(answers) == {201: CROWD}
        assert len({answer.json["sku"] for answer in answers} | taken) == CROWD + len(taken)
        assert {answer.json["version"] for answer in answers} == {1}
        assert sum(answer.json["sku"] == f"P-{answer.json['id']}" for answer in answers) == CROWD - len(taken)

    @pytest.mark.parametrize(
        ("account", "code"),
        [
            (lambda n: {"email": "dave@example.com", "username": f"dave-{n}"}, "email_taken"),
            (lambda n: {"email": ["dave@example.com", "Dave@Example.com"][n % 2], "username": f"d-{n}"}, "email_taken"),
            (lambda n: {"email": f"dave{n}@example.com", "username": ["dave", "Dave"][n % 2]}, "username_taken"),
        ],
        ids=["e-mail", "e-mail in another case", "username"],
    )
    def test_one_account_is_registered_once(
        self, connect: Connect, account: Callable[[int], dict[str, str]], code: str
    ) -> None:
        accounts = [{**account(number), "password": PASSWORD} for number in range(CROWD)]

        def register(client: Client, content: dict[str, str]) -> Answer:
            while (answer := client.post("/auth/register", content)).status == 503:
                time.sleep(0.2)
            return answer

        answers = at_once([partial(register, connect(), content) for content in accounts])

        assert statuses(answers) == {201: 1, 409: CROWD - 1}
        assert codes(answers, 409) == {code}


class TestDeleting:
    @pytest.mark.parametrize("collection", ["products", "categories"])
    def test_happens_once(
        self, root: Caller, connect: Connect, make_product: Make, make_category: Make, collection: str
    ) -> None:
        row = make_product() if collection == "products" else make_category()

        answers = at_once([partial(connect(root).delete, f"/{collection}/{row['id']}") for _ in range(16)])

        assert statuses(answers) == {204: 1, 404: 15}

    @pytest.mark.parametrize("collection", ["products", "categories"])
    def test_or_an_edit_with_the_same_etag_wins_alone(
        self, root: Caller, connect: Connect, make_product: Make, make_category: Make, collection: str
    ) -> None:
        crowd = [connect(root) for _ in range(6)]
        for _ in range(10):
            row = make_product() if collection == "products" else make_category()
            path = f"/{collection}/{row['id']}"

            deleted, *edited = at_once(
                [
                    partial(crowd[0].delete, path, '"1"'),
                    *(partial(client.patch, path, {"name": "New"}, '"1"') for client in crowd[1:]),
                ]
            )

            results = statuses([deleted, *edited])
            assert results[200] + results[204] == 1
            assert results[412] + results[404] == 5
            assert crowd[0].get(path).status == (404 if deleted.status == 204 else 200)

    @pytest.mark.parametrize("collection", ["products", "categories"])
    def test_over_whatever_is_there_ends_the_edits(
        self, root: Caller, connect: Connect, make_product: Make, make_category: Make, collection: str
    ) -> None:
        crowd = [connect(root) for _ in range(6)]
        for _ in range(10):
            row = make_product() if collection == "products" else make_category()
            path = f"/{collection}/{row['id']}"

            deleted, *edited = at_once(
                [
                    partial(crowd[0].delete, path),
                    *(partial(client.patch, path, {"name": "New"}) for client in crowd[1:]),
                ]
            )

            assert deleted.status == 204
            assert set(statuses(edited)) <= {200, 404}
            assert crowd[0].get(path).status == 404

    @pytest.mark.parametrize("if_match", ["*", '"1"'])
    def test_a_category_never_leaves_a_product_without_one(
        self, root: Caller, connect: Connect, make_product: Make, make_category: Make, if_match: str
    ) -> None:
        crowd = [connect(root) for _ in range(6)]
        for round_ in range(20):
            category, moving = make_category(), make_product()

            # Whoever waits at a barrier last starts first: each has its turn.
            calls = [
                partial(crowd[0].delete, f"/categories/{category['id']}", if_match),
                partial(crowd[1].patch, f"/products/{moving['id']}", {"category_id": category["id"]}),
                partial(crowd[2].post, "/categories", {"name": "Child", "parent_id": category["id"]}),
                *(partial(client.post, "/products", product_in(category)) for client in crowd[3:]),
            ]
            order = random.Random(round_).sample(range(len(calls)), len(calls))
            answers = dict(zip(order, at_once([calls[i] for i in order]), strict=True))
            deleted, filed = answers.pop(0), list(answers.values())

            assert deleted.status in {204, 409}, deleted.body
            if deleted.status == 204:
                assert statuses(filed) == {422: len(filed)}
                assert codes(filed, 422) <= {"category_unknown", "parent_unknown"}
                assert crowd[0].get(f"/categories/{category['id']}").status == 404
            else:
                assert deleted.code == "category_in_use"
                assert set(statuses(filed)) <= {200, 201}
            for answer in filed:
                if "category_id" in answer.json:
                    assert crowd[0].get(f"/categories/{answer.json['category_id']}").status == 200


class TestMoving:
    @pytest.mark.parametrize("if_match", ["*", '"1"'])
    @pytest.mark.parametrize("size", [2, 3])
    def test_categories_below_each_other_makes_no_ring(
        self, alice: Caller, connect: Connect, make_category: Make, size: int, if_match: str
    ) -> None:
        crowd = [connect(alice) for _ in range(size)]
        for _ in range(10):
            nodes = [make_category()["id"] for _ in range(size)]
            parents = [*nodes[1:], nodes[0]]

            answers = at_once(
                [
                    partial(client.patch, f"/categories/{node}", {"parent_id": parent}, if_match)
                    for client, node, parent in zip(crowd, nodes, parents, strict=True)
                ]
            )

            assert statuses(answers) == {200: size - 1, 409: 1}
            assert codes(answers, 409) == {"category_cycle"}
            roots = [crowd[0].get(f"/categories/{node}").json["parent_id"] for node in nodes]
            assert roots.count(None) == 1


class TestPuttingByAKey:
    @pytest.mark.parametrize("key", ["external_id", "sku", "slug", "gtin"])
    def test_from_32_threads_makes_one_product(
        self, alice: Caller, connect: Connect, make_category: Make, key: str
    ) -> None:
        category_id = make_category()["id"]
        crowd = [connect(alice) for _ in range(32)]
        for number in range(3):
            # The product that one makes has all keys, so the others meet it at any of them.
            value = {"gtin": ["96385074", "036000291452", "4006381333931"][number]}.get(key, f"key-{number}")
            content = {"name": "Chair", "price": "5.00", "category_id": category_id, "sku": f"S-{key}-{number}"}
            body = {**content, key: value}

            answers = at_once([partial(client.put, f"/products/by/{key}/{value}", body) for client in crowd])

            assert statuses(answers) == {201: 1, 200: 31}
            assert len({answer.json["id"] for answer in answers}) == 1
            assert {answer.json["version"] for answer in answers} == {1}

    @pytest.mark.parametrize("rows", ["categories", "brands"])
    def test_from_16_threads_makes_one_category_or_brand(self, alice: Caller, connect: Connect, rows: str) -> None:
        crowd = [connect(alice) for _ in range(16)]
        for number in range(3):
            path = f"/{rows}/by/external_id/erp-{number}"

            answers = at_once([partial(client.put, path, {"name": f"Chairs {number}"}) for client in crowd])

            assert statuses(answers) == {201: 1, 200: 15}
            assert len({answer.json["id"] for answer in answers}) == 1

    def test_of_one_name_and_many_keys_makes_each_category(self, alice: Caller, connect: Connect) -> None:
        crowd = [connect(alice) for _ in range(8)]

        answers = at_once(
            [
                partial(client.put, f"/categories/by/external_id/same-{number}", {"name": "Chairs"})
                for number, client in enumerate(crowd)
            ]
        )

        assert statuses(answers) == {201: 8}
        assert len({answer.json["slug"] for answer in answers}) == 8

    def test_each_its_own_content_leaves_one_of_them_whole(
        self, alice: Caller, connect: Connect, make_category: Make
    ) -> None:
        category_id = make_category()["id"]
        crowd = [connect(alice) for _ in range(16)]
        contents = [
            {"name": f"Chair {number}", "price": f"{number}.50", "category_id": category_id, "description": str(number)}
            for number in range(1, 17)
        ]

        answers = at_once(
            [
                partial(client.put, "/products/by/external_id/erp-1", content)
                for client, content in zip(crowd, contents, strict=True)
            ]
        )

        assert statuses(answers) == {201: 1, 200: 15}
        assert sorted(answer.json["version"] for answer in answers) == list(range(1, 17))
        now = connect(alice).get("/products/by/external_id/erp-1").json
        assert [now[name] for name in contents[0]] in [list(content.values()) for content in contents]


class TestRestoring:
    def test_many_of_one_slug_gives_each_its_own(self, root: Caller, connect: Connect, make_category: Make) -> None:
        content = {"name": "Chair", "price": "5.00", "category_id": make_category()["id"], "slug": "seat"}
        admin, ids = connect(root), []
        for _ in range(8):
            ids.append(admin.post("/products", content).json["id"])
            admin.delete(f"/products/{ids[-1]}")

        crowd = [connect(root) for _ in ids]
        answers = at_once(
            [partial(client.post, f"/products/{one}/restore") for client, one in zip(crowd, ids, strict=True)]
        )

        assert statuses(answers) == {200: 8}
        assert len({answer.json["slug"] for answer in answers}) == 8


class TestNamingAlike:
    def test_gives_each_product_a_slug_of_its_own(self, alice: Caller, connect: Connect, make_category: Make) -> None:
        content = {"name": "Oak chair", "price": "5.00", "category_id": make_category()["id"]}
        crowd = [connect(alice) for _ in range(24)]

        answers = at_once([partial(client.post, "/products", content) for client in crowd])

        assert statuses(answers) == {201: 24}
        assert len({answer.json["slug"] for answer in answers}) == 24


class TestReadingOnesOwnWrites:
    def test_finds_them_on_every_worker(self, alice: Caller, site: Site, connect: Connect, make_product: Make) -> None:
        path = f"/products/{make_product()['id']}"

        def work(writer: Client, reader: Client) -> list[tuple[str, str]]:
            # Each pair has its own two connections, and the kernel gives those to either worker.
            return [(writer.patch(path, {"name": "New"}).etag, reader.get(path).etag) for _ in range(5)]

        pairs = at_once([partial(work, connect(alice), connect(alice)) for _ in range(8)])

        for written, read in itertools.chain(*pairs):
            assert version_in(read) >= version_in(written)


def version_in(etag: str) -> int:
    """The version that an ETag says."""
    return int(etag.strip('"').partition(".")[0])


class TestLocations:
    def test_lead_to_what_was_made(self, alice: Caller, connect: Connect, make_category: Make) -> None:
        content = product_in(make_category())

        answers = at_once([partial(connect(alice).post, "/products", content) for _ in range(16)])

        reader = connect(alice)
        for answer in answers:
            assert reader.get(answer.headers["Location"].removeprefix(API)).json == answer.json
