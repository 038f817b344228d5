"""Metrics, progress bar and messages of a running training."""

import contextlib
import logging
import pathlib
from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from jaxssl import distributed
from jaxssl.evaluation.shown import show
from jaxssl.progress import Progress
from jaxssl.training.metrics import MetricsWriter

log = logging.getLogger("jaxssl")


class Reporter:
    """Writes and shows metrics; of several processes only the first does."""

    def __init__(
        self, writer: MetricsWriter | None, bar: Progress, config: ConfigDict, steps_per_epoch: int
    ):
        self._writer, self._bar, self._config = writer, bar, config
        self._per_epoch = steps_per_epoch

    def report_training(self, step: int, means: Mapping[str, float]) -> None:
        """Writes the means of the steps since the last report, and shows some of them."""
        if self._writer:
            self._writer.write(step, step / self._per_epoch, means)
        speed = means["images_per_sec"]
        self._bar(
            step - self._bar.done,
            f"epoch {step / self._per_epoch:.2f}/{self._config.epochs}",
            f"loss {means['loss']:.4f}",
            f"{speed:.0f} images/s",
            f"data wait {means['data_wait']:.0%}",
            rate=speed / self._config.batch_size,
        )

    def report_measurements(self, step: int, results: Mapping[str, float]) -> None:
        """Writes and logs what hooks have measured, if anything."""
        if results and self._writer:
            self._writer.write(step, step / self._per_epoch, results)
            shown = [f"{k} {show(k, v)}" for k, v in results.items() if k.startswith("eval/")]
            if shown:
                log.info("step %d: %s", step, "  ".join(shown))

    def pause(self) -> None:
        """Makes room for messages."""
        self._bar.pause()


@contextlib.contextmanager
def open_reporter(
    config: ConfigDict, workdir: pathlib.Path, steps_per_epoch: int, start: int
) -> Iterator[Reporter]:
    """The reporter of a run that begins, or continues after `start` steps.

    Args:
      config: of the run.
      workdir: where metrics go; those of steps after `start` are dropped.
      steps_per_epoch: in each of `config.epochs` epochs.
      start: how many steps are done.
    """
    total, first = config.epochs * steps_per_epoch, distributed.is_first()
    with contextlib.ExitStack() as stack:
        writer = None
        if first:
            writer = stack.enter_context(MetricsWriter(workdir, start, wandb=config.wandb))
        bar = Progress(total, "training", done=start, unit="steps", show=first and start < total)
        yield Reporter(writer, stack.enter_context(bar), config, steps_per_epoch)
