"""What a training will take, in one sentence: from measured costs and what there is to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from napari_histosam.train.finetune.costs import expected_splits, work_of
from napari_histosam.train.finetune.windows import parts_of
from napari_histosam.viewer.learning.follow import duration
from napari_histosam.viewer.learning.order import JUDGED
from napari_histosam.viewer.learning.sources import WINDOW_PX, groups_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_histosam.models import ModelCard
    from napari_histosam.train.finetune.costs import Costs, Work
    from napari_histosam.viewer.learning.sources import Teaching


@dataclass(frozen=True)
class Estimate:
    """What a training will take, about.

    Parameters
    ----------
    seconds, comparison : float
        Of all of it, and of what comes behind the last epoch: the last part, the comparison.
    gigabytes : float
    device : str
    learned : bool
        Whether it comes from a training of this kind and not only from a trial.
    """

    seconds: float
    comparison: float
    gigabytes: float
    device: str
    learned: bool

    @property
    def text(self) -> str:
        """The estimate in one sentence."""
        memory = "GPU memory" if self.device == "cuda" else "memory"
        how = "as your last training of this kind" if self.learned else "measured on this machine"
        return (
            f"About {duration(self.seconds)} and {_gigabytes(self.gigabytes)} of {memory} ({how}); "
            "less when nothing improves any more."
        )

    @property
    def warning(self) -> str:
        """One sentence where less memory is free than it takes; else nothing."""
        free = psutil.virtual_memory().available / 1e9
        if self.device == "cuda" or self.gigabytes < free:
            return ""
        return (
            f"Only {_gigabytes(free)} of memory are free: close other programs first, or "
            "choose a smaller model or method."
        )


def estimate(costs: Costs, work: Work) -> Estimate:
    """Return what work takes at given costs."""
    return Estimate(
        costs.whole(work),
        costs.after(work),
        costs.gigabytes,
        costs.device,
        costs.source == "run",
    )


def work_ahead(card: ModelCard, chosen: Sequence[Teaching], epochs: int) -> Work:
    """Return the work that chosen slides make; their data set is not built yet."""
    groups = groups_of(chosen)
    windows = expected_splits(sum(one.windows for one in chosen), groups)
    objects = expected_splits(sum(one.count for one in chosen), groups)
    return work_of(parts_of(card, WINDOW_PX), windows, objects, epochs, JUDGED)


def work_done(card: ModelCard, splits: Mapping[str, Mapping[str, int]], epochs: int) -> Work:
    """Return the work that a data set made; ``splits`` as its build has reported them."""
    windows, objects = (
        {name: int(part[what]) for name, part in splits.items()} for what in ("windows", "objects")
    )
    return work_of(parts_of(card, WINDOW_PX), windows, objects, epochs, JUDGED)


def _gigabytes(amount: float) -> str:
    return f"{amount:.0f} GB" if amount >= 9.95 else f"{amount:.1f} GB"
