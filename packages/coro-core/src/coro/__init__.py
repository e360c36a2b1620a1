"""coro: coroutines that look like threads.

Write plain blocking code; thousands of coroutines share one thread, and an event loop runs them.  This module only
re-exports the public names.  What needs more than the scheduler is imported when it is first asked for, which keeps
``import coro`` cheap: sockets alone cost as much as all of the scheduler.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from sys import modules as _modules
from typing import TYPE_CHECKING
from typing import Any as _Any

from .coroutine import all_threads as all_threads
from .coroutine import coro as coro
from .coroutine import set_selfishness as set_selfishness
from .exceptions import ClosedError as ClosedError
from .exceptions import DeadCoroutine as DeadCoroutine
from .exceptions import DeadlockError as DeadlockError
from .exceptions import InParallelError as InParallelError
from .exceptions import Interrupted as Interrupted
from .exceptions import LockError as LockError
from .exceptions import NoPollerError as NoPollerError
from .exceptions import NotStartedError as NotStartedError
from .exceptions import ScheduleError as ScheduleError
from .exceptions import Shutdown as Shutdown
from .exceptions import SimultaneousError as SimultaneousError
from .exceptions import TimeoutError as TimeoutError
from .exceptions import WakeUp as WakeUp
from .exceptions import YieldFromMain as YieldFromMain
from .latency import set_latency_warning as set_latency_warning
from .loop import coro_is_running as coro_is_running
from .loop import event_loop as event_loop
from .loop import run as run
from .loop import set_exit as set_exit
from .loop import set_exit_grace as set_exit_grace
from .loop import set_print_exit_string as set_print_exit_string
from .report import get_live_coros as get_live_coros
from .report import made_at as made_at
from .report import print_stderr as print_stderr
from .report import set_exception_notifier as set_exception_notifier
from .report import waits_for as waits_for
from .report import where as where
from .report import where_all as where_all
from .report import write_stderr as write_stderr
from .timeouts import timeout as timeout
from .timeouts import with_timeout as with_timeout
from .verbs import current as current
from .verbs import get_now as get_now
from .verbs import get_thread_by_id as get_thread_by_id
from .verbs import new as new
from .verbs import notify_of_close as notify_of_close
from .verbs import schedule as schedule
from .verbs import sleep_absolute as sleep_absolute
from .verbs import sleep_relative as sleep_relative
from .verbs import spawn as spawn
from .verbs import suspend as suspend
from .verbs import ticks_per_sec as ticks_per_sec
from .verbs import ticks_per_usec as ticks_per_usec
from .verbs import wait_for_read as wait_for_read
from .verbs import wait_for_write as wait_for_write
from .verbs import yield_slice as yield_slice

if TYPE_CHECKING:
    from . import backdoor as backdoor
    from . import clocks as clocks
    from . import files as files
    from . import oserrors as oserrors
    from . import read_stream as read_stream
    from . import shrapnel as shrapnel
    from . import subprocess as subprocess
    from . import tb as tb
    from .connect import create_connection as create_connection
    from .connect import create_server as create_server
    from .connect import has_ipv6 as has_ipv6
    from .connect import make_socket as make_socket
    from .connect import socketpair as socketpair
    from .connect import tcp6_sock as tcp6_sock
    from .connect import tcp_sock as tcp_sock
    from .connect import udp6_sock as udp6_sock
    from .connect import udp_sock as udp_sock
    from .connect import unix_sock as unix_sock
    from .groups import Pool as Pool
    from .groups import group as group
    from .local import ThreadLocal as ThreadLocal
    from .locks import mutex as mutex
    from .locks import rw_lock as rw_lock
    from .names import ThreadResolver as ThreadResolver
    from .names import get_resolver as get_resolver
    from .names import getaddrinfo as getaddrinfo
    from .names import getnameinfo as getnameinfo
    from .names import set_resolver as set_resolver
    from .parallel import FAILURE as FAILURE
    from .parallel import SUCCESS as SUCCESS
    from .parallel import in_parallel as in_parallel
    from .processes import fork as fork
    from .processes import waitpid as waitpid
    from .queues import Queue as Queue
    from .queues import QueueClosed as QueueClosed
    from .queues import event_queue as event_queue
    from .queues import fifo as fifo
    from .servers import StreamServer as StreamServer
    from .signal_handler import register_signal_handler as register_signal_handler
    from .signal_handler import unregister_signal_handler as unregister_signal_handler
    from .sockets import AF as AF
    from .sockets import PF as PF
    from .sockets import SHUT as SHUT
    from .sockets import SO as SO
    from .sockets import SOCK as SOCK
    from .sockets import SOL as SOL
    from .sockets import coro_fd as coro_fd
    from .sockets import fd_sock as fd_sock
    from .sockets import file_sock as file_sock
    from .sockets import get_live_sockets as get_live_sockets
    from .sockets import sock as sock
    from .sync import Barrier as Barrier
    from .sync import Event as Event
    from .sync import condition_variable as condition_variable
    from .sync import inverted_semaphore as inverted_semaphore
    from .sync import semaphore as semaphore
    from .threads import Portal as Portal
    from .threads import set_thread_limit as set_thread_limit
    from .threads import to_thread as to_thread
    from .tls import create_tls_connection as create_tls_connection
    from .tls import tls_sock as tls_sock
    from .tls import wrap_tls as wrap_tls

# By module.  Those without a name here are public as modules.
_LATER = {
    "backdoor": "",
    "clocks": "",
    "connect": """
        create_connection create_server has_ipv6 make_socket socketpair tcp6_sock tcp_sock udp6_sock udp_sock unix_sock
    """,
    "files": "",
    "groups": "Pool group",
    "local": "ThreadLocal",
    "locks": "mutex rw_lock",
    "names": "ThreadResolver get_resolver getaddrinfo getnameinfo set_resolver",
    "oserrors": "",
    "parallel": "FAILURE SUCCESS in_parallel",
    "processes": "fork waitpid",
    "queues": "Queue QueueClosed event_queue fifo",
    "read_stream": "",
    "servers": "StreamServer",
    "shrapnel": "",
    "signal_handler": "register_signal_handler unregister_signal_handler",
    "sockets": "AF PF SHUT SO SOCK SOL coro_fd fd_sock file_sock get_live_sockets sock",
    "subprocess": "",
    "sync": "Barrier Event condition_variable inverted_semaphore semaphore",
    "tb": "",
    "threads": "Portal set_thread_limit to_thread",
    "tls": "create_tls_connection tls_sock wrap_tls",
}
_module_of = {name: module for module, names in _LATER.items() for name in names.split()}

__version__ = "0.1.0"

install_signal_handlers = True  #: Whether a loop in the main thread takes SIGINT and SIGTERM.


if not TYPE_CHECKING:  # for type checkers an unknown name is an error

    def __getattr__(name: str) -> _Any:
        if name in _LATER:
            return _import_module(f".{name}", __name__)
        if name in _module_of:
            value = globals()[name] = getattr(_import_module(f".{_module_of[name]}", __name__), name)
            return value
        if not name.startswith("__"):
            shrapnel = _import_module(".shrapnel", __name__)
            if name in shrapnel.__all__:
                return getattr(shrapnel, name)  # each time anew: `now` is the time
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_module_of})


del TYPE_CHECKING

# For ``from coro import *``: the public names, but neither modules nor the one that would hide a builtin (D-60).
__all__ = [
    name
    for name in __dir__()
    if not name.startswith("_") and f"coro.{name}" not in _modules and name not in ("TimeoutError", "annotations")
]
