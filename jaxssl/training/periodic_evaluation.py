"""Evaluation during training: kNN and segmentation each time, a linear probe at the end."""

from ml_collections import ConfigDict

from jaxssl.evaluation.datasets import open_configured
from jaxssl.evaluation.run import Pairs, choose_tasks, match, run_tasks, with_config
from jaxssl.pretrained.encoder import Encoder
from jaxssl.training.trainer import Trainer
from jaxssl.types import TrainState


def open_evaluation(config: ConfigDict) -> Pairs:
    """The data sets `config.eval.datasets`, opened, and the tasks they have labels for."""
    datasets = open_configured(config)
    offered = frozenset().union(*(data.offers for data in datasets))
    labeled = "labels" in offered or "label maps" not in offered
    names = ["knn", "linear"] if labeled else []
    names += ["segmentation"] if "label maps" in offered else []
    names += ["in_context"] if "label maps" in offered and config.eval.in_context else []
    names += ["retrieval"] if "labeled regions" in offered else []
    return match(with_config(choose_tasks(names), config.eval), datasets) if datasets else []


class PeriodicEvaluation:
    """Runs the tasks with the encoder as it is then."""

    def __init__(self, config: ConfigDict, trainer: Trainer, pairs: Pairs):
        self._config, self._trainer, self._pairs = config, trainer, pairs

    def __call__(self, step: int, state: TrainState) -> dict[str, float]:
        """Results by key, `eval/...`; of a linear probe only after the last step."""
        linear = step == self._trainer.step.total_steps and self._config.eval.linear
        frozen = Encoder(
            self._trainer.step.method.encoder,
            self._trainer.step.encoder_variables(state),
            self._config.views.normalize,
            self._trainer.mesh,
            self._config.eval.batch_size,
            show=False,
        )
        now = [pair for pair in self._pairs if pair[0] != "linear" or linear]
        return {k: v for record in run_tasks(frozen, now) for k, v in record.as_metrics().items()}
