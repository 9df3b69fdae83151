"""The guard where it connects: against a resolver that changes its answer, and with the original Host and SNI."""

import datetime
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.clients.addresses import Guard
from app.clients.errors import AddressRefused, ConnectFailed, Phase, TimedOut, Unresolvable
from app.clients.http import APIClient, Timeouts
from app.clients.resolver import Resolver
from tests.outbound.misbehaving import Server, black_hole, name_server

#: Loopback is 127.0.0.0/8. In these tests one address of it stands for the public server, and is allowed; another has
#: the service that must not be reached, on the same port.
PUBLIC, INTERNAL = "127.0.0.2", "127.0.0.1"
NAME = "hooks.example.com"


@pytest.fixture
def internal() -> Iterator[Server]:
    """What must not be reached."""
    with Server(address=INTERNAL) as server:
        yield server


@pytest.fixture
def public(internal: Server) -> Iterator[Server]:
    """What may be reached."""
    with Server(address=PUBLIC, port=internal.port) as server:
        yield server


def guarded(look_up: Callable[..., Any], **options: Any) -> APIClient:
    """A client whose guard takes the address that stands for the public server."""
    return APIClient(guard=Guard(allowed_hosts=[PUBLIC]), resolver=Resolver(look_up), **options)


class TestRebinding:
    """A name server whose next answer is the internal address (DNS rebinding)."""

    def test_finds_no_second_lookup(self, internal: Server, public: Server) -> None:
        with name_server([[PUBLIC], [INTERNAL]]) as (look_up, asked), guarded(look_up) as api:
            assert api.get(f"http://{NAME}:{internal.port}/ok").is_success

        assert asked == [f"{NAME}."]
        assert public.requests[0].headers["host"] == f"{NAME}:{internal.port}"
        assert internal.connections == 0

    def test_is_refused_when_the_next_connection_is_made(self, internal: Server, public: Server) -> None:
        with name_server([[PUBLIC], [INTERNAL]]) as (look_up, _):
            with guarded(look_up) as api:
                api.get(f"http://{NAME}:{internal.port}/ok")
            with guarded(look_up) as api, pytest.raises(AddressRefused):
                api.get(f"http://{NAME}:{internal.port}/ok")

        assert (public.connections, internal.connections) == (1, 0)

    def test_is_refused_for_a_retry(self, internal: Server, public: Server, no_pauses: None) -> None:
        with (
            name_server([[PUBLIC], [INTERNAL]]) as (look_up, asked),
            guarded(look_up) as api,
            pytest.raises(AddressRefused),
        ):
            api.get(f"http://{NAME}:{internal.port}/cut")

        assert len(asked) == 2
        assert (public.connections, internal.connections) == (1, 0)

    @pytest.mark.parametrize("answer", [[INTERNAL], [PUBLIC, INTERNAL], [INTERNAL, PUBLIC], [PUBLIC, "10.0.0.1"]])
    def test_is_refused_if_any_answer_is(self, internal: Server, public: Server, answer: list[str]) -> None:
        with (
            name_server([answer, [PUBLIC]]) as (look_up, asked),
            guarded(look_up) as api,
            pytest.raises(AddressRefused),
        ):
            api.get(f"http://{NAME}:{internal.port}/ok")

        assert len(asked) == 1
        assert (public.connections, internal.connections) == (0, 0)

    @pytest.mark.parametrize("host", ["localhost", "metadata.google.internal", "127.1", "0x7f.1"])
    def test_is_not_even_asked_for_a_special_name(self, internal: Server, host: str) -> None:
        with (
            name_server([[PUBLIC]]) as (look_up, asked),
            guarded(look_up) as api,
            pytest.raises(AddressRefused),
        ):
            api.get(f"http://{host}:{internal.port}/ok")

        assert asked == []

    def test_would_reach_the_internal_server_without_the_guard(self, internal: Server) -> None:
        with name_server([[INTERNAL]]) as (look_up, _), APIClient(resolver=Resolver(look_up)) as api:
            api.get(f"http://{NAME}:{internal.port}/ok")

        assert internal.connections == 1

    def test_leaves_a_redirect_to_the_internal_server_alone(self, internal: Server, public: Server) -> None:
        with name_server([[PUBLIC]]) as (look_up, _), guarded(look_up) as api:
            for target in (internal.url, f"http://2130706433:{internal.port}", f"//{INTERNAL}:{internal.port}"):
                with pytest.raises(Exception, match="302"):
                    api.get(f"http://{NAME}:{internal.port}/redirect?{target}/ok")

        assert internal.connections == 0


class TestSeveralAddresses:
    def test_are_tried_in_turn(self, server: Server) -> None:
        # Nothing listens at the first.
        def look_up(host: str, port: int, **_: Any) -> Any:
            return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.9", server.address)]

        with APIClient(resolver=Resolver(look_up)) as api:
            assert api.get(f"http://{NAME}:{server.port}/ok").is_success

    def test_leave_time_for_the_next_where_one_drops_packets(self, server: Server) -> None:
        def look_up(host: str, port: int, **_: Any) -> Any:
            return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.9", server.address)]

        timeouts = Timeouts(connect=2, read=60, total=60)
        with black_hole("127.0.0.9", server.port), APIClient(resolver=Resolver(look_up), timeouts=timeouts) as api:
            assert api.post(f"http://{NAME}:{server.port}/ok").is_success

    def test_time_out_where_all_drop_packets(self) -> None:
        timeouts = Timeouts(connect=0.3, total=60)
        with black_hole("127.0.0.9") as port, APIClient(timeouts=timeouts) as api, pytest.raises(TimedOut) as raised:
            api.post(f"http://127.0.0.9:{port}/")

        assert raised.value.phase is Phase.CONNECT

    def test_are_four_at_most(self, server: Server) -> None:
        def look_up(host: str, port: int, **_: Any) -> Any:
            return [(2, 1, 6, "", (f"127.0.0.{number}", port)) for number in (11, 12, 13, 14, 1)]

        with APIClient(resolver=Resolver(look_up), attempts=1) as api, pytest.raises(ConnectFailed):
            api.get(f"http://{NAME}:{server.port}/ok")

        assert server.connections == 0

    def test_must_be_one_at_least(self) -> None:
        with APIClient(resolver=Resolver(lambda *_, **__: []), attempts=1) as api, pytest.raises(Unresolvable):
            api.get(f"http://{NAME}/")


class TestTLS:
    def test_is_verified_for_the_name_and_not_the_address(self, tmp_path: Path) -> None:
        names: list[str] = []
        context, trusting = certified(tmp_path, NAME, names)
        with Server(tls=context) as server, name_server([[server.address]]) as (look_up, _):
            guard = Guard(allowed_hosts=[server.address])
            with APIClient(guard=guard, resolver=Resolver(look_up), ssl_context=trusting) as api:
                assert api.get(f"https://{NAME}:{server.port}/ok").is_success
                assert api.post(f"https://{NAME}:{server.port}/ok", content="x" * 1_000_000).is_success

        assert names == [NAME]
        assert server.requests[0].headers["host"] == f"{NAME}:{server.port}"
        assert server.connections == 1

    def test_is_refused_for_another_name_at_the_same_address(self, tmp_path: Path) -> None:
        context, trusting = certified(tmp_path, NAME, [])
        with Server(tls=context) as server, name_server([[server.address]]) as (look_up, _):
            guard = Guard(allowed_hosts=[server.address])
            with APIClient(guard=guard, resolver=Resolver(look_up), ssl_context=trusting, attempts=1) as api:
                api.get(f"https://{NAME}:{server.port}/ok")
                with pytest.raises(ConnectFailed, match="certificate"):
                    api.get(f"https://other.example.com:{server.port}/ok")

        assert len(server.requests) == 1

    def test_is_refused_without_a_trusted_certificate(self, tmp_path: Path) -> None:
        context, _ = certified(tmp_path, NAME, [])
        with Server(tls=context) as server, name_server([[server.address]]) as (look_up, _):
            guard = Guard(allowed_hosts=[server.address])
            api = APIClient(guard=guard, resolver=Resolver(look_up), attempts=1)
            with api, pytest.raises(ConnectFailed, match="certificate"):
                api.get(f"https://{NAME}:{server.port}/ok")

        assert server.requests == []


def certified(folder: Path, name: str, asked: list[str]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a server that is certified as ``name`` and keeps the names it is asked for, and TLS of its clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)

    def keep(connection: ssl.SSLObject | ssl.SSLSocket, asked_for: str | None, _: ssl.SSLContext) -> None:
        asked.append(asked_for or "")

    server.sni_callback = keep
    return server, ssl.create_default_context(cafile=str(file))


def test_the_addresses_of_these_tests_are_apart() -> None:
    """A machine where 127.0.0.2 were not this one, or were 127.0.0.1, would prove nothing above."""
    with socket.create_server((PUBLIC, 0)) as one, socket.create_server((INTERNAL, one.getsockname()[1])) as other:
        assert one.getsockname()[0] != other.getsockname()[0]
