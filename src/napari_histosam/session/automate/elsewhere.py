"""Has tiles looked at by the workers of a scheduler, here or on other machines.

Whether a model finds objects or tells how likely regions are, its card says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.jobs.cluster import kept_on_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_histosam.jobs.cluster import Cluster
    from napari_histosam.models.automatic import AutomaticModel, RegionModel
    from napari_histosam.session.automate.plan import Tile
    from napari_histosam.slide import Slide


@dataclass(frozen=True)
class Sight:
    """What a worker needs in order to look at tiles of a slide.

    Parameters
    ----------
    path : str
        Of the slide; the workers read it themselves, so it must be there for them, too.
    identity : str
        The slide's, so that no other one is taken for it.
    model, weights_hash : str
        A model that every worker has, and its weights.
    files : tuple of str
        The user's own weights in place of the card's.
    device : str
    """

    path: str
    identity: str
    model: str
    weights_hash: str
    files: tuple[str, ...] = ()
    device: str = "auto"


class LookElsewhere:
    """Looks at tiles on the workers of a scheduler; a `Looker`.

    Parameters
    ----------
    cluster : Cluster
    sight : Sight
    """

    def __init__(self, cluster: Cluster, sight: Sight) -> None:
        self._cluster = cluster
        self._sight = sight

    def __call__(self, tiles: Iterator[Tile]) -> Iterator[tuple[Tile, Any]]:
        """Yield what the model says of each tile, in the order of the tiles."""
        return self._cluster.in_order(partial(_look, self._sight), tiles)


def sight_of(
    slide: Slide,
    model: AutomaticModel | RegionModel,
    files: tuple[str, ...] = (),
    device: str = "auto",
) -> Sight:
    """Return what workers need to look at a slide with a model.

    Raises
    ------
    InputError
        If the slide has no file that they could read.
    """
    if slide.path is None:
        raise InputError(f"{slide.name} is no file, so other processes cannot read it: save it.")
    return Sight(
        str(Path(slide.path).absolute()),
        slide.identity,
        model.card.name,
        model.weights_hash,
        files,
        device,
    )


def _look(sight: Sight, tile: Tile) -> Any:
    """Look at one tile; runs on a worker."""
    (slide, model), lock = kept_on_worker(repr(sight), lambda: _opened(sight))
    image = slide.read(tile.window)
    with lock:  # a model answers one thread at a time
        return model.probabilities(image) if model.card.finds == "regions" else model.find(image)


def _opened(sight: Sight) -> tuple[Slide, Any]:
    from napari_histosam.models import ModelRegistry
    from napari_histosam.slide import open_slide

    slide = open_slide(sight.path)
    if slide.identity != sight.identity:
        slide.close()
        raise InputError(
            f"{sight.path} is another slide for a worker than here: give all of them the same "
            "folder."
        )
    model = ModelRegistry().load(sight.model, sight.device, files=sight.files or None)
    if model.weights_hash != sight.weights_hash:
        slide.close()
        raise InputError(
            f"A worker has other weights of {sight.model} than this machine: copy the model's "
            "files into its HISTOSAM_HOME, or give all of them one HISTOSAM_HOME."
        )
    return slide, model
