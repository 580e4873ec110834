"""Processes that are sent Ctrl-C."""

import signal


def heeds_interrupts() -> None:
    """For `preexec_fn`: what a shell starts in the background ignores interrupts, and so do its children otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
