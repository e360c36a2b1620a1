"""Echo servers with asyncio, on its own loop and on uvloop's, with streams and with protocols."""

from __future__ import annotations

import asyncio
from typing import Any

from . import BACKLOG, CHUNK, announce, tls_context


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.transport.sendto(data, address)


async def tcp(protocol: bool, **options: Any) -> None:
    if protocol:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=BACKLOG, **options)
    else:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=BACKLOG, **options)
    announce(server.sockets[0].getsockname())
    await server.serve_forever()


async def tls(protocol: bool) -> None:
    await tcp(protocol, ssl=tls_context())


async def udp(protocol: bool) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    announce(transport.get_extra_info("sockname"))
    await asyncio.Event().wait()


def serve(entrant: str, kind: str) -> None:
    """Serve with "asyncio", "uvloop" or the "-protocol" of one of them."""
    library, _, protocol = entrant.partition("-")
    main = globals()[kind](bool(protocol))
    if library == "uvloop":
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)
