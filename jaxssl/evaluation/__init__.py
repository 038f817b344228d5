"""Evaluation: tasks ask an encoder how good it is on data sets with labels, maps or regions.

To add a task: a file that ends in a `Task` (its function, its protocol, what it needs of a data
set), and its name in `TASKS`.
"""

from jaxssl.evaluation.classification.few_shot import FEW_SHOT
from jaxssl.evaluation.classification.finetune import FINETUNE
from jaxssl.evaluation.classification.knn import KNN
from jaxssl.evaluation.classification.linear_probe import LINEAR
from jaxssl.evaluation.classification.logistic import LOGISTIC
from jaxssl.evaluation.collapse import HEALTH
from jaxssl.evaluation.dense.depth import DEPTH
from jaxssl.evaluation.dense.fcn import FCN
from jaxssl.evaluation.dense.in_context import IN_CONTEXT
from jaxssl.evaluation.dense.linear_segmentation import SEGMENTATION
from jaxssl.evaluation.dense.overclustering import OVERCLUSTERING
from jaxssl.evaluation.dense.pets import PETS
from jaxssl.evaluation.region_retrieval import RETRIEVAL
from jaxssl.evaluation.task import Task

TASKS: dict[str, Task] = {
    "knn": KNN,
    "linear": LINEAR,
    "logistic": LOGISTIC,
    "few_shot": FEW_SHOT,
    "finetune": FINETUNE,
    "segmentation": SEGMENTATION,
    "in_context": IN_CONTEXT,
    "overclustering": OVERCLUSTERING,
    "fcn": FCN,
    "pets": PETS,
    "depth": DEPTH,
    "retrieval": RETRIEVAL,
    "health": HEALTH,
}
