"""Pairs of a predicting view and its target, where targets are among the first two views.

MoCo, BYOL and SimSiam compare two views. Any further ones, the local views of multi-crop, predict
the targets and are none themselves, as in SwAV (arXiv 2006.09882, section 3.2) and DINO (arXiv
2104.14294, section 3.1): a part is matched to what is seen of the whole, never the whole to a part.
"""

from jaxssl.errors import UserError
from jaxssl.types import ViewSpec


def pairs(num_views: int, targets: tuple[int, ...] = (0, 1)) -> list[tuple[int, int]]:
    """All (i, j) such that view i predicts the target j, another view."""
    return [(i, j) for j in targets for i in range(num_views) if i != j]


def check_targets(method: str, views: tuple[ViewSpec, ...]) -> None:
    """Raises UserError unless there are two views and both are global."""
    if sum(view.is_global for view in views) < 2:
        raise UserError(
            f"{method} compares two global views of an image: set --config.views.num_global=2"
        )


def check_multi_crop(method: str, views: tuple[ViewSpec, ...]) -> None:
    """Raises UserError unless two views or more are global, and larger than the local ones.

    By their size the method tells them apart.
    """
    check_targets(method, views)
    size = views[0].size
    if any(view.size >= size for view in views if not view.is_global):
        raise UserError(
            f"{method} takes views of {size} pixels for global ones, and local views are as large: "
            f"set --config.views.local_size={size // 2}"
        )
