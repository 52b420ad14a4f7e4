"""Processes that end with the one that began them."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process when its parent has ended, however that was.

    A study that was killed must not go on training beside the one that takes its place.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only what multiprocessing began has a parent"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
