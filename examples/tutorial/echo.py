"""A server in a dozen lines: a loop that accepts, and a coroutine for each connection.

    python tutorial/echo.py 9000
    python tutorial/clients.py 9000

There are at most ten connections at a time; the others wait in the backlog.
"""

import sys

import coro

places = coro.semaphore(10)


def session(conn, address):
    """Send back all that comes; b"" is the end of the stream."""
    try:
        while data := conn.recv(8000):
            conn.send(data)
    finally:
        conn.close()
        places.release()


def serve(port):
    """Accept for ever."""
    listener = coro.tcp_sock()
    listener.set_reuse_addr()
    listener.bind(("", port))
    listener.listen(1024)
    print("listening on port", listener.getsockname()[1], flush=True)
    with listener:
        while True:
            places.acquire()
            conn, address = listener.accept()
            coro.spawn(session, conn, address)


if __name__ == "__main__":
    coro.spawn(serve, int(sys.argv[1]))
    coro.event_loop(30.0)
