"""Names of earlier versions: runs that were saved under them are read by those of today."""

# Keys of configs.
CONFIG_KEYS = {
    "eval.void": "eval.ignore_labels",
    "method.positives_compete": "method.positives_in_denominator",
    "optim.drop_at": "optim.milestones",
    "optim.drop_factor": "optim.decay_factor",
}

# Keys of configs that have no successor, and what to do with a run that has them.
REMOVED_KEYS = {
    "data.canvas": "it learns from images squashed to squares, which are no longer made: begin it "
    "anew in another --workdir, with images at their own shape"
}

# Fields of the state in checkpoints.
STATE_FIELDS = {"method": "method_state", "sampler": "sampler_state"}

# Last parts of the keys in `metrics.jsonl` and `eval.json`.
RESULTS = {
    "chance": "majority_baseline",
    "fell_back": "fallback_fraction",
    "floor_abs_rel": "baseline_abs_rel",
    "floor_delta1": "baseline_delta1",
    "floor_map": "baseline_map",
    "floor_pixel_accuracy": "baseline_pixel_accuracy",
}


# What may be given to --set, and keys of protocols in `eval.json`.
SETTINGS = {"linear.learning_rates": "linear.lr", "finetune.learning_rates": "finetune.lr"}
PROTOCOLS = {"learning_rates": "lr"}

# Tasks of evaluation, and what to give to --tasks now.
TASKS = {"fcn_cityscapes": "fcn --preset cityscapes"}


def current_result(key: str) -> str:
    """The name of today for a key of results, such as `eval/objects/chance`."""
    place, slash, name = key.rpartition("/")
    return place + slash + RESULTS.get(name, name)
