"""How a program shares the processor. For programs (`lsnet`, the plugin), not for the library, which sets nothing."""

from __future__ import annotations

import os


def let_waiting_threads_sleep() -> None:
    """Ask OpenMP's threads to sleep while they wait; call it before torch is loaded.

    A step of a level set is hundreds of short parallel pieces. Threads that spin between them take the processor from
    each other, and from the viewer, as soon as anything else is running: measured on two cores with a load of five, a
    run took 5 times as long as with sleeping threads. What the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
