"""Shrapnel's clocks.  Only `coro.clocks.tsc_time` is left of them."""
