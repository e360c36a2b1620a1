"""coro: coroutines that look like threads.

Write plain blocking code; thousands of coroutines share one thread, and an event loop runs them.  This module only
re-exports the public names.
"""

from __future__ import annotations

from .coroutine import all_threads as all_threads
from .coroutine import coro as coro
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
from .loop import coro_is_running as coro_is_running
from .loop import event_loop as event_loop
from .loop import run as run
from .loop import set_exit as set_exit
from .loop import set_exit_grace as set_exit_grace
from .loop import set_print_exit_string as set_print_exit_string
from .report import get_live_coros as get_live_coros
from .report import print_stderr as print_stderr
from .report import set_exception_notifier as set_exception_notifier
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

__version__ = "0.1.0"

install_signal_handlers = True  #: Whether a loop in the main thread takes SIGINT and SIGTERM.
