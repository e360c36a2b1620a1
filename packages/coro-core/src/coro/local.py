"""`ThreadLocal`: attributes of which each coroutine has its own, as each thread has with `threading.local`.

Stands on `coro.kernel` and on the coroutine object.  The values belong to the `ThreadLocal`, in one dict for each
*owner*, and an owner is known by a key that only it holds: a coroutine until it ends, a thread, for its main program,
as long as it lives.  So the values go when either side goes, also where a value refers to one of them.
"""

from __future__ import annotations

import threading
from typing import Any, Final
from weakref import WeakKeyDictionary

from .kernel import this_kernel, worker

__all__ = ["ThreadLocal"]


class Key:
    """What a coroutine or a main program is known by."""

    __slots__ = ("__weakref__",)


class _MainProgram(threading.local):
    def __init__(self) -> None:
        self.key = Key()


_main_program: Final = _MainProgram()


class ThreadLocal:
    """An object whose attributes are private to each coroutine.

    It behaves like `threading.local`, with coroutines in place of threads; the main program of each thread counts as
    one of them, before, during and after the loop.  An attribute that the current coroutine has not set is an
    AttributeError, ``__dict__`` holds what it has set, and all is forgotten when it ends.

    A subclass may have methods, properties, class attributes as defaults, and an ``__init__``, which is called for each
    coroutine that uses the object, at its first use there and with the arguments of the constructor.  What is in
    ``__slots__`` is shared.  TypeError for arguments without an ``__init__`` to take them.
    """

    __slots__ = ("__arguments", "__dicts", "__weakref__")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> Any:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__} has no __init__ that could take the arguments {args} {kwargs}")
        self = object.__new__(cls)
        dicts: WeakKeyDictionary[Key, dict[str, Any]] = WeakKeyDictionary()
        dicts[key_of_owner()] = {}  # here and now the constructor is what calls __init__
        object.__setattr__(self, "_ThreadLocal__dicts", dicts)
        object.__setattr__(self, "_ThreadLocal__arguments", (args, kwargs))
        return self

    def __getattribute__(self, name: str) -> Any:
        values = values_of_owner(self)
        if name == "__dict__":
            return values
        if name in values and not is_data_descriptor(type(self), name):
            return values[name]
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        values = values_of_owner(self)
        if is_data_descriptor(type(self), name):
            refuse_dict(self, name)
            object.__setattr__(self, name, value)
        else:
            values[name] = value

    def __delattr__(self, name: str) -> None:
        values = values_of_owner(self)
        if is_data_descriptor(type(self), name):
            refuse_dict(self, name)
            object.__delattr__(self, name)
        elif name in values:
            del values[name]
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot copy or pickle {type(self).__name__!r} object")


def key_of_owner() -> Key:
    """Return the key of the coroutine, or of the main program, that is running."""
    try:
        co = worker().kernel.current
    except AttributeError:
        co = this_kernel().current
    if co is None:
        return _main_program.key
    key: Key | None = co._local_key
    if key is None:
        key = co._local_key = Key()
    return key


def values_of_owner(local: ThreadLocal) -> dict[str, Any]:
    """Return what the current owner has set in *local*; at its first use there, call ``__init__``."""
    dicts: WeakKeyDictionary[Key, dict[str, Any]] = object.__getattribute__(local, "_ThreadLocal__dicts")
    key = key_of_owner()
    values = dicts.get(key)
    if values is None:
        values = dicts[key] = {}
        cls = type(local)
        if cls.__init__ is not object.__init__:
            args, kwargs = object.__getattribute__(local, "_ThreadLocal__arguments")
            try:
                cls.__init__(local, *args, **kwargs)
            except BaseException:
                dicts.pop(key, None)  # the next use tries again
                raise
    return values


def is_data_descriptor(cls: type, name: str) -> bool:
    """Return whether the class says how attribute *name* is set: a property, a slot and the like."""
    for base in cls.__mro__:
        if name in base.__dict__:
            kind = type(base.__dict__[name])
            return hasattr(kind, "__set__") or hasattr(kind, "__delete__")
    return name == "__dict__"


def refuse_dict(local: ThreadLocal, name: str) -> None:
    if name == "__dict__":
        raise AttributeError(f"{type(local).__name__!r} object attribute '__dict__' is read-only", name=name, obj=local)
