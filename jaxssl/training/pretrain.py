"""Pre-training from a config: what it names is checked and opened, then the loop runs."""

import functools
import logging
import pathlib
from typing import NamedTuple

import flax.linen as nn
import jax
import jaxlib.version
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import distributed, sharding
from jaxssl.config import build_method
from jaxssl.config.checks import check
from jaxssl.data import Source
from jaxssl.data.batch_order import Order
from jaxssl.data.canvas import CanvasSpec
from jaxssl.data.pipeline import example_batch
from jaxssl.data.store import cache_folder
from jaxssl.errors import UserError
from jaxssl.evaluation.run import Pairs
from jaxssl.models import variable_shapes
from jaxssl.pretrained.encoder import load_init_variables
from jaxssl.training.checkpoint import newest_step
from jaxssl.training.health_monitor import HealthMonitor
from jaxssl.training.images import open_data, open_images
from jaxssl.training.loop import Loop
from jaxssl.training.metrics import import_wandb
from jaxssl.training.periodic_evaluation import PeriodicEvaluation, open_evaluation
from jaxssl.training.sampler_refresh import Refresh
from jaxssl.training.step import (
    TrainStep,
    count_parameters,
    make_train_step,
    with_pretrained_encoder,
)
from jaxssl.training.trainer import Trainer
from jaxssl.training.workdir import Images, begin_run, check_images, check_workdir, open_workdir
from jaxssl.types import TrainState, Tree

log = logging.getLogger("jaxssl")


class Plan(NamedTuple):
    """All of a run that is known before an image is decoded, but for a sample of them."""

    source: Source
    canvas: CanvasSpec
    images: Images
    step: TrainStep
    shapes: TrainState  # and shardings
    weights: Tree  # that the encoder is to have at first; None: random ones
    evaluation: Pairs


def pretrain(
    config: ConfigDict,
    workdir: pathlib.Path | str,
    *,
    profile: int = 0,
    plan: Plan | None = None,
) -> None:
    """Trains to the end, or continues what was begun in `workdir`.

    On Ctrl-C, SIGTERM and the like it saves a checkpoint and raises a KeyboardInterrupt with the
    number of the signal. What can be checked is checked before anything is decoded or compiled.
    `profile` is a number of steps of which there is to be a trace, in the workdir; `plan` what
    `plan_run` found before.
    """
    if profile < 0:
        raise UserError(f"--profile {profile}: give the number of steps to trace, 1 or more")
    workdir = pathlib.Path(workdir)
    sharding.enable_compilation_cache(cache_folder(config.data.cache_dir) / "programs")
    mesh = sharding.make_mesh()
    device_bytes = distributed.process_min(sharding.memory_per_device())
    plan = plan or plan_run(config, workdir, mesh)
    with open_workdir(workdir):
        with distributed.raise_together():  # which may take hours
            pipeline = open_data(config, plan.source, plan.canvas, device_bytes)
        begin_run(workdir, config, plan.images)
        trainer = Trainer(plan.step, pipeline, mesh, config.seed)

        def init() -> TrainState:
            state = trainer.init()
            return with_pretrained_encoder(state, plan.weights) if plan.weights else state

        evaluate = PeriodicEvaluation(config, trainer, plan.evaluation)
        watch = HealthMonitor(config, trainer)
        refresh = Refresh(trainer, config.epochs)
        loop = Loop(config, workdir, trainer, (evaluate, watch), refresh, profile)
        with distributed.exit_on_peer_failure():
            log_start(workdir, mesh, plan.shapes)
            stopped_by = loop.run(plan.shapes, init)
    if stopped_by:
        raise KeyboardInterrupt(stopped_by)


def plan_run(config: ConfigDict, workdir: pathlib.Path, mesh: Mesh) -> Plan:
    """Opens what a config names, for a run that begins in `workdir` or goes on there.

    Raises UserError, in all processes, for whatever can be wrong with them.
    """
    if not distributed.is_first():
        log.setLevel(logging.WARNING)
    with distributed.raise_together():
        sharding.check_batch_size(config.batch_size, mesh)
        check_workdir(workdir, check(config))
        if config.wandb and distributed.is_first():
            import_wandb()
        method, encoder = build_method(config)
        check_sizes(config, encoder)
        weights = None
        if config.encoder.init and not newest_step(workdir / "checkpoints"):
            weights = load_init_variables(config, encoder)
        source, canvas = open_images(config, method)
        images = check_images(workdir, config, source)
        order = Order(len(source), config.batch_size, config.seed)
        step = make_train_step(config, method, order.steps_per_epoch)
        init = functools.partial(step.init, num_examples=len(source))
        shapes = jax.eval_shape(init, jax.random.key(0), example_batch(canvas, config.batch_size))
        evaluation = open_evaluation(config)  # which decodes images, so all else comes before
    distributed.check_same(config=config.to_json(), images=len(source))
    shapes = sharding.replicated_specs(shapes, mesh)
    return Plan(source, canvas, images, step, shapes, weights, evaluation)


def check_sizes(config: ConfigDict, encoder: nn.Module) -> None:
    """Raises UserError if the encoder takes no images of a size that it will get."""
    # A size that two keys share is tried once, for tracing an encoder takes time.
    sizes = {config.eval.size or config.views.size: "eval.size"}
    if config.views.num_local:
        sizes[config.views.local_size] = "views.local_size"
    sizes[config.views.size] = "views.size"
    for size, key in sizes.items():
        try:
            variable_shapes(encoder, size)
        except UserError as error:
            raise UserError(f"{key} is {size}: {error}") from error


def log_start(workdir: pathlib.Path, mesh: Mesh, state: TrainState) -> None:
    """Logs what is about to run, and on what."""
    encoder, heads = count_parameters(state.params)
    device = mesh.devices.flat[0]
    versions = f"jax {jax.__version__}, jaxlib {jaxlib.version.__version__}"
    log.info("%s, %d x %s", versions, mesh.size, device.device_kind)
    log.info("parameters: %s in the encoder, %s in heads", f"{encoder:,}", f"{heads:,}")
    log.info("writing to %s; compiling", workdir)
