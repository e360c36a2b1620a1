"""One class of OSError for each errno: ``except oserrors.ECONNRESET:``.  Stands on `coro.exceptions`.

Python has subclasses of OSError of its own, which are what it really raises, and an ``except`` clause goes by the class
of what was raised.  So:

* An errno that has a builtin class to itself *is* that class: ``oserrors.ECONNRESET is ConnectionResetError``.  It
  catches what anybody raises.
* Every other errno has a class of its own, derived from the one that Python raises for it: ``oserrors.EMFILE`` from
  OSError, ``oserrors.EACCES`` and ``oserrors.EPERM`` from PermissionError.  It catches what was raised as this class:
  by the calls of coro, by `raise_oserror`, by `map_exception`, and inside ``with mapped():``.

All names of the module errno are there, several for the same number too.

`coro.sockets` imports this module beforehand, since an import at the time of the error would need a descriptor, and the
error may be that there is none.  So the import is cheap: a class is made when somebody first asks for it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar

from .exceptions import EBADF as EBADF

__all__ = ["err_map", "map_exception", "mapped", "raise_oserror", "specific"]

P = ParamSpec("P")
T = TypeVar("T")

CARRIED: Final = ("errno", "strerror", "filename", "filename2", "winerror", "characters_written")

err_map: dict[int, type[OSError]]  #: The class for each number that the module errno knows.

_classes: Final[dict[int, type[OSError]]] = {errno.EBADF: EBADF}  # those that have been made


def specific(exc: OSError) -> OSError:
    """Return *exc* as an instance of the class for its errno, with its text, file names, notes, causes and traceback.

    It is *exc* itself where Python has the class, where the errno is missing or unknown, and where the class is a more
    specific one already, such as `coro.ClosedError`.
    """
    kind = class_for(exc.errno) if isinstance(exc.errno, int) else OSError
    if type(exc) is not kind.__base__:
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
    raise_specific(e)
    raise e


class mapped:
    """``with oserrors.mapped():`` gives each OSError that leaves the block the class for its errno.

    For calls that are not coro's own: the ``except oserrors.EMFILE:`` stands outside the block.  Also a decorator.
    """

    def __enter__(self) -> None:
        """Nothing has been raised yet."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(exc, OSError):
            raise_specific(exc)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except OSError as exc:
                raise_specific(exc)
                raise

        return call


def raise_specific(exc: OSError) -> None:
    """Raise ``specific(exc)`` if that is another exception.  For an ``except`` clause, followed by ``raise``."""
    new = specific(exc)
    if new is exc:
        return
    context, traceback = new.__context__, new.__traceback__
    try:
        raise new
    finally:  # neither *exc*, which it stands for, nor this frame
        new.__context__, new.__traceback__ = context, traceback


def raise_oserror(error_number: int) -> NoReturn:
    """Raise the error for a number, with the system's text for it.  TypeError if it is no int."""
    raise class_for(error_number)(error_number, os.strerror(error_number))


def class_for(number: int) -> type[OSError]:
    """Return the class for an errno; OSError for one that the module errno does not know."""
    if number not in errno.errorcode:
        return OSError
    if number not in _classes:
        kind = type(OSError(number, ""))
        if sum(type(OSError(other, "")) is kind for other in errno.errorcode) > 1:
            kind = type(errno.errorcode[number], (kind,), {"__module__": __name__, "__doc__": os.strerror(number)})
        _classes.setdefault(number, kind)  # another thread may have been faster
    return _classes[number]


if TYPE_CHECKING:

    def __getattr__(name: str) -> type[OSError]: ...

else:

    def __getattr__(name: str) -> Any:
        number = getattr(errno, name, None)
        if isinstance(number, int):
            value = class_for(number)
        elif name == "err_map":
            value = {number: class_for(number) for number in errno.errorcode}
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *(name for name in vars(errno) if name.startswith("E")), "err_map"})
