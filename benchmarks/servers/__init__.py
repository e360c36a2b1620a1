"""Echo servers, written the way that each library teaches.  One file each, with a function for each kind of server.

All listen on a free port of 127.0.0.1, print it with `announce`, and serve until they are killed.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

BACKLOG = 4096
CHUNK = 65536  # bytes asked for at once

CERTIFICATE = Path(__file__).with_name("localhost.pem")  # and its key: signed by itself, a secret to nobody


def announce(address: tuple[str, int]) -> None:
    """Say where the server listens."""
    print(address[1], flush=True)


def tls_context(module: Any = ssl) -> Any:
    """A context for servers, from the standard module or from what a library has instead of it."""
    context = module.SSLContext(module.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context
