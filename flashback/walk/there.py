"""Whether a master is there, and lets root in.

Root may be kept out: of what somebody has mounted with FUSE (gocryptfs, sshfs, rclone), unless with `allow_root`
(mount.fuse(8)), and of what an NFS server keeps from a root that it takes for nobody (exports(5), `root_squash`).
"""

from __future__ import annotations

import os
from typing import Final

from flashback.config.values import Master
from flashback.core.errors import ConfigError

_ENTER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def absence(master: Master) -> str:
    """What keeps the master from being read now, to be said after its path; empty where it is there.

    Raises `ConfigError` for what is no directory, and for one that keeps root out.
    """
    try:
        os.close(os.open(master.path, _ENTER))
    except FileNotFoundError:
        return "is not there"
    except NotADirectoryError as problem:
        raise ConfigError(f"{master.path} is not a directory") from problem
    except PermissionError as problem:
        raise ConfigError(
            f"{master.path} does not let root in ({problem.strerror}): mount it so that root may read it (FUSE: with "
            "allow_root), or back up what it is made of"
        ) from problem
    except OSError as problem:
        return f"cannot be opened: {problem.strerror}"
    return ""
