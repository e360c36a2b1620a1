"""Fixtures of the tests of TLS: an authority, contexts for both ends, and connections.

The certificates are made by trustme; without it the files that import this one are skipped.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import coro
from coro.sockets import SO, SOL
from coro.tls import tls_sock, wrap_tls

from .helpers import tcp_pair

trustme = pytest.importorskip(
    "trustme", reason="trustme is not installed: it makes the certificates that all tests of TLS need"
)


@pytest.fixture(name="ca", scope="session")
def ca_fixture() -> Any:
    """An authority, which the client trusts."""
    return trustme.CA()


@pytest.fixture(name="server_context", scope="session")
def server_context_fixture(ca: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(name="files", scope="session")
def files_fixture(ca: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The paths of the certificate of the authority and of the certificate and key of the server."""
    folder = tmp_path_factory.mktemp("certificates")
    issued = ca.issue_cert("localhost", "127.0.0.1")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder / "ca.pem", folder / "server.pem"


@pytest.fixture(name="client_context")
def client_context_fixture(ca: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return context


@pytest.fixture(name="version", params=["TLSv1_2", "TLSv1_3"])
def version_fixture(request: pytest.FixtureRequest, client_context: ssl.SSLContext) -> str:
    """Each version of the protocol, set in the context of the client."""
    chosen = ssl.TLSVersion[request.param]
    client_context.minimum_version = client_context.maximum_version = chosen
    return str(request.param).replace("_", ".")


@pytest.fixture(name="connection")
def connection_fixture(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> Callable[..., AbstractContextManager[tuple[tls_sock, tls_sock]]]:
    """Makes both ends of a TLS connection, which are closed at the end of the block.

    Over TCP, or over a pair of sockets with small buffers.
    """

    @contextlib.contextmanager
    def make(
        small: bool = False,
        client_context: ssl.SSLContext = client_context,
        server_context: ssl.SSLContext = server_context,
        **kwargs: Any,
    ) -> Iterator[tuple[tls_sock, tls_sock]]:
        a, b = coro.socketpair() if small else tcp_pair()
        if small:
            for end in (a, b):
                end.setsockopt(SOL.SOCKET, SO.SNDBUF, 4096)
                end.setsockopt(SOL.SOCKET, SO.RCVBUF, 4096)
        accepting = coro.spawn(wrap_tls, b, server_context, server_side=True)
        client = wrap_tls(a, client_context, server_hostname="localhost", **kwargs)
        with client, accepting.result() as server:
            yield client, server

    return make
