"""Which view predicts which, where the first two views are the targets.

MoCo, BYOL and SimSiam compare two views. Any further ones, the local views of multi-crop, predict
both targets and are none themselves, as SwAV (arXiv 2006.09882, section 3.2) and DINO (arXiv
2104.14294, section 3.1) have it: what a small part shows is to be told from what is seen of the
whole, not the other way round; and the target network sees two views only, which keeps it cheap.
"""

from jaxssl.types import ViewSpec


def pairs(num_views: int, targets: tuple[int, ...] = (0, 1)) -> list[tuple[int, int]]:
    """All (i, j) such that view i predicts the target j, another view."""
    return [(i, j) for j in targets for i in range(num_views) if i != j]


def check_targets(method: str, views: tuple[ViewSpec, ...]) -> None:
    """Raises ValueError unless there are two views and both are global."""
    kinds = {(view.size, view.scale) for view in views[:2]}
    if len(views) < 2 or len(kinds) > 1:
        raise ValueError(
            f"{method} compares two global views of an image: set --config.views.num_global=2"
        )
