"""A stranger's plugin that cannot be imported.  It also claims the name of somebody else's poller, ``select``."""

import a_module_that_nobody_has  # noqa: F401
