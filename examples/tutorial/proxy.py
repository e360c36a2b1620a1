"""A proxy out of one class: an object for each direction, and each object is spawned like a function.

    python tutorial/proxy.py 9001 9000

Whoever ends first closes both sockets.  The other one, which is blocked in one of them, gets a ClosedError.
"""

import sys

import coro


class Pump:
    """Copies what comes from one socket to another one, until one of them ends."""

    def __init__(self, source, sink):
        total = 0
        try:
            while data := source.recv(8000):
                sink.send(data)
                total += len(data)
        except coro.ClosedError:
            pass  # the other direction has ended
        except OSError as error:
            print(error, flush=True)
        finally:
            source.close()
            sink.close()
            print(f"{total} bytes", flush=True)


def serve(port, target):
    """Accept for ever; each connection is two coroutines."""
    with coro.tcp_sock() as listener:
        listener.set_reuse_addr()
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
        print("listening on port", listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            server = coro.tcp_sock()
            try:
                server.connect(("127.0.0.1", target))
            except OSError as error:
                print(error, flush=True)
                client.close()
                server.close()
            else:
                coro.spawn(Pump, client, server)
                coro.spawn(Pump, server, client)


if __name__ == "__main__":
    coro.spawn(serve, int(sys.argv[1]), int(sys.argv[2]))
    coro.event_loop()
