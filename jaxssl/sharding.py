"""Placement of arrays on the devices, and functions compiled for all of them.

The step is written for one device. It runs on many because its arguments say where they lie: the
batch is split over the mesh's one axis, the state is the same on every device, and `jit` does the
rest. Batch norm, negatives and gradients are therefore those of the whole batch.
"""

import collections
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Wrapped

from jaxssl.data.machine_memory import machine_memory
from jaxssl.data.packing import Packing
from jaxssl.errors import UserError
from jaxssl.image.pyramid import LANES, Packed, as_words
from jaxssl.types import Tree


def make_mesh() -> Mesh:
    """A mesh of all devices on one axis, `data`; those of a process are next to each other."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if len(devices) != jax.process_count() * jax.local_device_count():
        raise UserError("the processes have different numbers of devices; give each the same")
    return Mesh(np.array(devices), ("data",))


def share() -> tuple[int, int]:
    """The part of every batch that this process reads: its number, and how many parts there are."""
    return jax.process_index(), jax.process_count()


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that are the same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays whose axis 0 is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def enable_compilation_cache(folder: pathlib.Path) -> None:
    """Keeps compiled programs in `folder`, so that a run that continues starts at once.

    And with the very same program: XLA times the kernels of a GPU to choose among them, and may
    choose others the next time. JAX_COMPILATION_CACHE_DIR, if set, says another folder. Programs
    for a CPU are not kept: they are for one machine, and home folders are shared by many.
    """
    given = jax.config.values["jax_compilation_cache_dir"]
    if jax.default_backend() != "cpu" and not given:
        jax.config.update("jax_compilation_cache_dir", str(folder))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises unless every device gets the same number of images."""
    n = mesh.size
    if batch_size < 1 or batch_size % n:
        below, above = batch_size // n * n, -(-batch_size // n) * n
        near = f"{below} or {above}" if below > 0 else f"{max(above, n)}"
        raise UserError(
            f"batch_size {batch_size} does not divide over {n} devices; take {near}, for example"
        )


def prefetch(batches: Iterator[Tree], mesh: Mesh, ahead: int = 2) -> Iterator[Tree]:
    """The batches, on the devices: copies of the next ones run while a step computes.

    Each process gives its rows of a batch.
    """
    queue: collections.deque[Tree] = collections.deque()
    for batch in batches:
        queue.append(make_global_batch(batch, mesh))
        if len(queue) > ahead:
            yield queue.popleft()
    yield from queue


def make_global_batch(tree: Tree, mesh: Mesh) -> Tree:
    """The arrays of which each process has its rows, split over the devices."""
    put = functools.partial(jax.make_array_from_process_local_data, split(mesh))
    return jax.tree.map(put, tree)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """The arrays, the same in each process, whole on every device."""
    put = functools.partial(jax.make_array_from_process_local_data, replicated(mesh))
    return jax.tree.map(put, tree)


def shard_rows(tree: Tree, mesh: Mesh) -> Tree:
    """The arrays, the same in each process, axis 0 split over the devices."""

    def put(array: np.ndarray | jax.Array) -> jax.Array:
        return jax.make_array_from_callback(array.shape, split(mesh), array.__getitem__)

    with jax.transfer_guard("allow"):  # this is meant, but JAX does not count it as such
        return jax.tree.map(put, tree)


def memory_per_device() -> int:
    """Bytes a device can hold; where the CPU is the device, its share of the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return machine_memory() // len(jax.local_devices())


def peak_memory() -> int:
    """The most bytes in use so far on a device of this process; 0 where the device cannot say."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max(int(s.get("peak_bytes_in_use", 0)) for s in stats)


def jit_step(step: Callable[..., Any], mesh: Mesh) -> Wrapped:
    """`step(state, batch, resident, key)`, for all devices; the state is donated.

    The batch is split over the devices; what is resident stays where it lies.
    """
    same, rows = replicated(mesh), split(mesh)
    return jax.jit(
        with_mesh(mesh, step),
        in_shardings=(same, rows, None, same),
        out_shardings=(same, same),
        donate_argnums=0,
    )


def with_mesh(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose loops over rows can tell which rows lie on one device.

    A loop over the rows of all devices would have each of them go through all.
    """

    @functools.wraps(function)
    def on_mesh(*args: Tree) -> Tree:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return on_mesh


def jit_refresh(encode: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`encode(memory, variables, batch, resident)`, for all devices."""
    same, rows = replicated(mesh), split(mesh)
    return jax.jit(encode, in_shardings=(same, same, rows, None), out_shardings=same)


def reads_words(name: str, mesh: Mesh) -> bool:
    """Whether the devices read an array of canvases as words, as TPUs do the images."""
    return name == "image" and mesh.devices.flat[0].platform == "tpu"


def in_device_layout(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, np.ndarray]:
    """A batch of canvases as the devices read it."""
    return {n: as_words(v) if reads_words(n, mesh) else v for n, v in batch.items()}


def make_resident(
    arrays: Mapping[str, np.ndarray | Packing], mesh: Mesh, *, split_pages: bool
) -> Tree:
    """Arrays of a whole data set, the same in each process, on all devices.

    With `split_pages` each device holds a part of the pages, instead of all of them.
    """

    def place(name: str, values: np.ndarray | Packing) -> Tree:
        if not isinstance(values, Packing):
            return replicate(values, mesh)
        where = split(mesh) if split_pages else replicated(mesh)
        number = -(-values.num_pages // mesh.size) * mesh.size if split_pages else values.num_pages
        words = reads_words(name, mesh)
        shape = (values.page_length, *values.rows.shape[2:])
        shape = (-(-values.page_length // (4 * LANES)), LANES) if words else shape
        dtype = np.uint32 if words else values.rows.dtype
        empty = jax.jit(lambda: jnp.zeros((number, *shape), dtype), out_shardings=where)
        put = jax.jit(lambda a, i, x: a.at[i].set(x), donate_argnums=0, out_shardings=where)
        pages = empty()
        for i, page in enumerate(values.pages()):  # one at a time: they are many gigabytes
            page = as_words(page) if words else page
            pages = put(pages, replicate(np.int32(i), mesh), replicate(page, mesh))
        return Packed(pages, replicate(values.page, mesh), replicate(values.start, mesh))

    return {name: place(name, values) for name, values in arrays.items()}


def jit_init(init: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`init(...)`, jitted: what it returns lies on every device."""
    return jax.jit(init, out_shardings=replicated(mesh), compiler_options=_fast_compile_options())


def _fast_compile_options() -> dict[str, int]:
    """Compiler options for functions that run so seldom that compiling takes most of the time."""
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}


def jit_over_rows(
    function: Callable[..., Any], mesh: Mesh, *, fast_compile: bool = False
) -> Callable[..., Any]:
    """`function(variables, rows)`, jitted: rows split over the devices, results on all.

    Rows are an array or a tree of them, the same in each process. Any number will do: they are
    filled up to a multiple of the devices. With `fast_compile` it is compiled quickly instead of
    well, for what runs seldom.
    """
    same = replicated(mesh)
    options = _fast_compile_options() if fast_compile else {}
    jitted = jax.jit(
        with_mesh(mesh, function),
        in_shardings=(same, split(mesh)),
        out_shardings=same,
        compiler_options=options,
    )

    def run(variables: Tree, rows: Tree) -> Tree:
        count = len(jax.tree.leaves(rows)[0])
        missing = -count % mesh.size
        if missing:
            rows = jax.tree.map(lambda x: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)), rows)
        results = jitted(variables, shard_rows(rows, mesh))
        if missing:
            results = jax.tree.map(lambda x: jax.lax.slice_in_dim(x, 0, count), results)
        return results

    return run


@functools.cache
def jit_gather(mesh: Mesh) -> Callable[[Tree], Tree]:
    """`gather(tree)`: rows that are split over the devices, all of them on all."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))


def shard_map_rows(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`function(rows, same)`, jitted: each device computes on its own rows and knows no others."""
    data = PartitionSpec("data")
    return jax.jit(
        jax.shard_map(
            function, mesh=mesh, in_specs=(data, PartitionSpec()), out_specs=data, check_vma=False
        )
    )


def replicated_specs(shapes: Tree, mesh: Mesh) -> Tree:
    """Shapes of arrays, each with the sharding that puts it whole on every device."""
    same = replicated(mesh)
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=same), shapes)
