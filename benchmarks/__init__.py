"""What coro costs, beside its peers and beside the floors that nothing can go below.  Run it: ``python -m benchmarks``.

What lies where, from the bottom:

    programs/      a cell as a program for each kind of library: small, idiomatic, and checking its own result
    servers/       echo servers, one file for each library; load.c and load.py ask them, floor.c is one in C
    cells.py       what is measured, and for whom              targets.toml   what coro is to reach
    child.py       one run of one cell, a process of its own   echo.py, startup.py   runs that need more processes
    suite.py       rounds in rotated order, and the report that they end in
    stats.py       medians, quartiles, confidence              tables.py, plots.py   a report as text and as pictures
    compare.py     is this tree slower than that one?          syscalls.py           what a request asks the system
"""
