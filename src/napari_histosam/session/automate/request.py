"""What an automatic run is asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.session.automate.plan import TilePlan
    from napari_histosam.store import Run


@dataclass(frozen=True)
class AutomateRequest:
    """An automatic run.

    Parameters
    ----------
    plan : TilePlan
    least_score : float
        Objects with a lower score are left out.
    class_name : str, optional
        The class of all objects; None leaves it to the model.
    skip_glass : bool
        Leave out tiles that show nothing but glass.
    author : str
        Kept with each object.
    """

    plan: TilePlan
    least_score: float = 0.0
    class_name: str | None = None
    skip_glass: bool = True
    author: str = ""

    def describe(self) -> dict[str, Any]:
        """Return all that decides the result, as JSON values."""
        return {
            "plan": self.plan.describe(),
            "least_score": self.least_score,
            "class_name": self.class_name,
            "skip_glass": self.skip_glass,
        }


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Parameters
    ----------
    run : Run
    finished : bool
        False if it was stopped; started again with the same request, it goes on.
    objects : int
        Found in all, also before the run was stopped and resumed.
    tiles, tiles_done : int
        With tissue in them, and looked at.
    known : int
        Left out because there was an object in their place already.
    cut : int
        Pieces left out because no tile shows their object whole.
    resumed : bool
        Whether tiles were done already.
    seconds : float
        Of this part of the run, without pauses.
    """

    run: Run
    finished: bool
    objects: int
    tiles: int
    tiles_done: int
    known: int
    cut: int
    resumed: bool
    seconds: float

    @property
    def text(self) -> str:
        """What to tell the user, in one or a few sentences."""
        if not self.tiles:
            return "There is only glass here, so nothing was looked at and nothing was found."
        what = _count(self.objects, "object")
        if not self.finished:
            return (
                f"Stopped after {self.tiles_done:,} of {_count(self.tiles, 'tile')}: {what} so "
                "far are kept; start again with the same settings to go on."
            )
        words = [f"{what} found in {_count(self.tiles, 'tile')}."]
        if self.known:
            words.append(f"{self.known:,} more were there already and left as they are.")
        if self.cut:
            words.append(
                f"What is larger than the overlap of the tiles was left out "
                f"({_count(self.cut, 'piece')})."
            )
        return " ".join(words)


def check_automatic(card: ModelCard, cards: Iterable[ModelCard] = ()) -> None:
    """Refuse in one sentence a model that cannot find objects by itself.

    Parameters
    ----------
    card : ModelCard
    cards : iterable of ModelCard
        All models, to name those that can.

    Raises
    ------
    InputError
    """
    if card.finds == "objects":
        return
    able = ", ".join(other.name for other in cards if other.finds == "objects")
    instead = f": choose one that can ({able})." if able else "."
    if card.finds == "regions":
        raise InputError(f"{card.name} maps regions of tissue and finds no single objects{instead}")
    raise InputError(f"{card.name} needs prompts and finds nothing by itself{instead}")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
