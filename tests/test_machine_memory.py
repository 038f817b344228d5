"""Memory within the limits of control groups."""

import os

import pytest

from jaxssl.data.machine_memory import machine_memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
LIMIT = 2**28


@pytest.mark.parametrize(
    ("groups", "files", "memory"),
    [
        (None, {}, MACHINE),  # no Linux
        ("0::/job/step", {"memory.max": "max"}, MACHINE),
        ("0::/job/step", {"job/step/memory.max": f"{LIMIT}\n", "job/memory.max": "max"}, LIMIT),
        ("0::/job/step", {"job/memory.max": f"{LIMIT}"}, LIMIT),
        ("0::/elsewhere", {"memory.max": f"{LIMIT}"}, LIMIT),  # in a container
        ("0::/job", {"job/memory.max": f"{2 * MACHINE}"}, MACHINE),
        ("3:cpu:/job\n2:memory:/job", {"memory/job/memory.limit_in_bytes": f"{LIMIT}"}, LIMIT),
        ("3:cpu:/job", {"memory/job/memory.limit_in_bytes": f"{LIMIT}"}, MACHINE),
    ],
)
def test_limits_of_control_groups_count(tmp_path, groups, files, memory):
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups + "\n")
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert machine_memory(tmp_path) == memory
