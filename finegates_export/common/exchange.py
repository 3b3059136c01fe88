"""Two names exchanged in one step, so that a reader finds the one thing or the other under a name, never nothing.

Linux has renameat2(2) with RENAME_EXCHANGE, macOS has renamex_np(2) with RENAME_SWAP; not every file system takes them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE, RENAME_SWAP = -100, 2, 2
"""Of Linux's <fcntl.h> and <linux/fs.h>, and of macOS' <sys/stdio.h>."""
NOT_OFFERED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}
"""What kernels and file systems without an exchange answer; some sandboxes forbid calls that they do not know."""


def exchange(one: Path, other: Path) -> bool:
    """Exchange what two names on one file system stand for; False if the system cannot, and nothing was changed.

    Raises:
        OSError: a name does not exist, or may not be changed.
    """
    call = _system_call()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    number = ctypes.get_errno()
    if number in NOT_OFFERED:
        return False
    raise OSError(number, os.strerror(number), str(one))


def _system_call() -> Callable[[bytes, bytes], int] | None:
    """The exchange of this system, as a function of two paths; None if it has none."""
    if sys.platform == "win32":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        swap = getattr(library, "renamex_np", None)
        return None if swap is None else lambda one, other: int(swap(one, other, ctypes.c_uint(RENAME_SWAP)))
    rename = getattr(library, "renameat2", None)
    if rename is None:
        return None
    return lambda one, other: int(rename(AT_FDCWD, one, AT_FDCWD, other, ctypes.c_uint(RENAME_EXCHANGE)))
