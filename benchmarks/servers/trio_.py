"""Echo servers with trio."""

from __future__ import annotations

import ssl
from typing import Any

import trio

from . import BACKLOG, CHUNK, announce, tls_context


async def echo(stream: Any) -> None:
    async for data in stream:
        await stream.send_all(data)


async def serve(context: ssl.SSLContext | None) -> None:
    if context is None:
        listeners: Any = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=BACKLOG)
        announce(listeners[0].socket.getsockname())
    else:
        # Clients end a connection without the close_notify of TLS, as those of HTTPS do.
        listeners = await trio.open_ssl_over_tcp_listeners(
            0, context, host="127.0.0.1", backlog=BACKLOG, https_compatible=True
        )
        announce(listeners[0].transport_listener.socket.getsockname())
    await trio.serve_listeners(echo, listeners)


def tcp() -> None:
    trio.run(serve, None)


def tls() -> None:
    trio.run(serve, tls_context())


def udp() -> None:
    async def main() -> None:
        sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        await sock.bind(("127.0.0.1", 0))
        announce(sock.getsockname())
        while True:
            data, address = await sock.recvfrom(CHUNK)
            await sock.sendto(data, address)

    trio.run(main)
