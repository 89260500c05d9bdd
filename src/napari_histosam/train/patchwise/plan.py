"""What a training from patch labels is to do: the request, frozen, and which part of it may change.

Stage 1 teaches the classifier. What comes after it, masks and rounds of the decoder, can be asked
for anew with other numbers in the same folder: the classifier stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from napari_histosam.errors import InputError
from napari_histosam.models.ep_sam.points import AGREED
from napari_histosam.train.finetune.plan import Plan

Until = Literal["classifier", "all"]
METHOD = "patches"  # how a model was trained, on its card
# What the decoder's stages depend on beside the classifier.
_LATER = ("profile", "percentile", "agreement", "decoder_rate", "decoder_epochs", "views")
# What has no meaning here, and what only says how far to go.
_OUT = ("objects", "corrections", "boxes_only", "decay", "warm_up", "rounds", "until", *_LATER)
SMALLEST_PX, LARGEST_PX = 48, 1024
MOST_VIEWS = 4


@dataclass(frozen=True)
class PatchPlan(Plan):
    """A training from patch labels.

    Parameters
    ----------
    epochs, rate, batch
        Of the classifier; a batch counts patches. The others are those of `Plan`.
    until : {"classifier", "all"}
        Where to end; the same plan without it goes on.
    profile : str, optional
        A name of `napari_histosam.models.ep_sam.cam.PROFILES`: how a heat map becomes a mask. None
        takes that of the base's card.
    percentile : float, optional
        Of the cells that are not cold: what is warmer belongs to the heat map's mask. None takes
        that of the profile, or of the base's card.
    agreement : float
        The share of a pseudo-mask that must be warm for it to be learned from, 0 to 1.
    rounds : int
        How often the decoder learns anew from what the one before it made.
    decoder_epochs : int
        At most, in each of these rounds and the one before them.
    decoder_rate : float, optional
        Peak learning rate of the decoder; None takes the recipe's.
    views : int
        In how many of four ways (as it is, mirrored twice, turned) a patch is shown to the
        decoder, 1 to 4: each is encoded once.
    patch_px : int, optional
        Side at which the networks see a patch; None takes that of the base's card.
    """

    until: Until = "all"
    profile: str | None = None
    percentile: float | None = None
    agreement: float = AGREED
    rounds: int = 3
    decoder_epochs: int = 20
    decoder_rate: float | None = None
    views: int = MOST_VIEWS
    patch_px: int | None = None

    def check(self) -> None:
        """Raise InputError if a number makes no sense."""
        super().check()
        if self.devices * self.nodes > 1:
            raise InputError(
                f"{self.model} is trained on one device: leave --devices and --nodes away."
            )
        bounds: tuple[tuple[str, float, float], ...] = (
            ("percentile", 0, 100),
            ("agreement", 0, 1),
            ("rounds", 0, 20),
            ("decoder_epochs", 1, math.inf),
            ("views", 1, MOST_VIEWS),
            ("patch_px", SMALLEST_PX, LARGEST_PX),
        )
        for name, low, high in bounds:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                most = f"{low} to {high}" if high < math.inf else f"{low} or more"
                raise InputError(f"--{name.replace('_', '-')} must be {most}, not {value}.")
        if self.decoder_rate is not None and not 0 < self.decoder_rate < math.inf:
            raise InputError(f"--decoder-rate must be a number above 0, not {self.decoder_rate}.")

    def record(self) -> dict[str, Any]:
        """Return what decides the classifier, ready for JSON."""
        return {k: v for k, v in super().record().items() if k not in _OUT}

    def later(self) -> dict[str, Any]:
        """Return what decides the rest, but how many rounds."""
        return {name: getattr(self, name) for name in _LATER}
