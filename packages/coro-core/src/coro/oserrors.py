"""One class of OSError for each errno: ``except oserrors.ECONNRESET:``.  Stands on the standard library only.

Python has subclasses of OSError of its own, which are what it really raises, and an ``except`` clause goes by the class
of what was raised.  So:

* An errno that has a builtin class to itself *is* that class: ``oserrors.ECONNRESET is ConnectionResetError``.  It
  catches what anybody raises.
* Every other errno has a class of its own, derived from the one that Python raises for it: ``oserrors.EMFILE`` from
  OSError, ``oserrors.EACCES`` and ``oserrors.EPERM`` from PermissionError.  It catches what was raised as this class:
  by `raise_oserror`, by `map_exception`, and inside ``with mapped():``.

All names of the module errno are there, several for the same number too.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

__all__ = ["err_map", "map_exception", "mapped", "raise_oserror", "specific"]

CARRIED: Final = ("errno", "strerror", "filename", "filename2", "winerror", "characters_written")

err_map: Final[dict[int, type[OSError]]] = {}  #: The class for each number that the module errno knows.


def specific(exc: OSError) -> OSError:
    """Return *exc* as an instance of the class for its errno, with its text, file names, notes, causes and traceback.

    It is *exc* itself where Python has the class, where the errno is missing or unknown, and where the class is a more
    specific one already, such as `coro.ClosedError`.
    """
    kind = err_map.get(exc.errno) if exc.errno is not None else None
    if kind is None or type(exc) is not kind.__base__:
        return exc
    new = kind(*exc.args)
    for name in CARRIED:
        value = getattr(exc, name, None)
        if value is not None:
            setattr(new, name, value)
    new.__dict__.update(exc.__dict__)
    new.__cause__, new.__context__ = exc.__cause__, exc.__context__
    new.__suppress_context__ = exc.__suppress_context__
    return new.with_traceback(exc.__traceback__)


def map_exception(e: OSError) -> NoReturn:
    """Raise ``specific(e)``: *e* with the class for its errno."""
    new, context = specific(e), e.__context__
    try:
        raise new
    finally:
        new.__context__ = context  # not *e*, which it stands for
        del new


@contextmanager
def mapped() -> Iterator[None]:
    """``with oserrors.mapped():`` gives each OSError that leaves the block the class for its errno.

    For calls that are not coro's own: the ``except oserrors.EMFILE:`` stands outside the block.  Also a decorator.
    """
    try:
        yield
    except OSError as exc:
        map_exception(exc)


def raise_oserror(error_number: int) -> NoReturn:
    """Raise the error for a number, with the system's text for it.  TypeError if it is no int."""
    raise err_map.get(error_number, OSError)(error_number, os.strerror(error_number))


def _make_classes() -> None:
    raised = {number: type(OSError(number, "")) for number in errno.errorcode}
    numbers_of = Counter(raised.values())
    for number, name in errno.errorcode.items():
        kind = raised[number]
        if numbers_of[kind] > 1:
            kind = type(name, (kind,), {"__module__": __name__, "__doc__": os.strerror(number)})
        err_map[number] = kind
    for name, number in vars(errno).items():
        if isinstance(number, int):
            globals()[name] = err_map[number]


_make_classes()

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[OSError]: ...
