"""Memory that is there for data: the machine's, or less in a container or a job."""

import os
import pathlib


def machine_memory(root: pathlib.Path = pathlib.Path("/")) -> int:
    """Bytes the machine has, or that its control groups leave this process: container, job."""
    least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    own = root / "proc/self/cgroup"
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")  # version 1 or 2
        folder = top / group.lstrip("/")
        # A group is under the limits of those it is in; a container may see only the topmost.
        for path in (folder, *folder.parents):
            for file in (path / "memory.max", path / "memory.limit_in_bytes"):
                if file.is_file() and (limit := file.read_text().strip()).isdigit():
                    least = min(least, int(limit))
    return least
