"""SAM-Lung as it is trained: decoder and adapters by its authors' recipe, or the decoder alone.

The decoder alone learns from embeddings that are kept, so that a CPU does it; they are those of the
windows as they are, neither turned nor recoloured. (Turning an embedding would teach next to
nothing, for all but one layer of the decoder treat every place alike.) With the adapters, windows
are turned, mirrored and recoloured anew each time, and no feature is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import ColorJitter

from napari_histosam.models.sam.build import BUNDLED
from napari_histosam.models.sam.mona import mona_parts
from napari_histosam.models.sam_lung.frame import Pixels
from napari_histosam.models.sam_lung.loss import (
    DECAY,
    MOMENTUM,
    RATE,
    WEIGHTS,
    cross_entropy,
    dice_loss,
    pace,
)
from napari_histosam.models.sam_lung.network import learned, learned_state, published_name
from napari_histosam.models.trainable import check_method
from napari_histosam.models.window_trainable import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch.optim import Optimizer

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.sam_lung.network import SamLung
    from napari_histosam.models.trainable import Method
    from napari_histosam.models.window_trainable import Look, WindowTruth

METHODS: tuple[Method, ...] = ("decoder", "mona")
_DECODER = "mask_decoder."
# The authors' rate is for two windows a step.
_RATE = RATE / 2
_JITTER = {"brightness": 16 / 255, "contrast": 0.125, "saturation": 0.075, "hue": 0.01}


def methods_for(card: ModelCard) -> tuple[Method, ...]:
    """Return the methods by which a model can be trained."""
    return METHODS if card.variant != BUNDLED else METHODS[:1]


class SamLungTrainable:
    """SAM-Lung as a `WindowTrainable`.

    Parameters
    ----------
    card : ModelCard
        With the classes that are to be learned; where the network has another number of them,
        each begins as the mean of those that it has.
    net : SamLung
        With the base's weights; it is changed in place.
    method : {"decoder", "mona"}
        ``"mona"`` trains adapters and decoder.

    Raises
    ------
    InputError
        If the method is another one, or the card's numbers make no sense.
    """

    rate = _RATE

    def __init__(self, card: ModelCard, net: SamLung, method: str) -> None:
        self.card = card
        self.method = check_method(card, method, methods_for(card))
        self._pixels = Pixels.of(card)
        if net.outputs != len(card.classes) + 1:
            _with_outputs(net, len(card.classes) + 1)
        self.module: Any = net.requires_grad_(False).eval()
        self._adapts = self.method == "mona"
        for name, part in learned(net).items():
            part.requires_grad_(self._adapts or name.startswith(_DECODER))
        self._jitter = ColorJitter(**_JITTER)

    def prepare(self, *images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return ``"rgb"``, the padded square (3, side, side) uint8."""
        (image,) = images
        return {"rgb": self._pixels.square(image)}

    def encode(self, inputs: Mapping[str, Tensor], truth: WindowTruth) -> dict[str, Tensor]:
        """Return ``"embedding"`` (256, side / 16, side / 16); nothing if the encoder learns."""
        if self._adapts:
            return {}
        pixels = self._pixels.scaled(inputs["rgb"])[None]
        with torch.no_grad():
            return {"embedding": self.module.image_encoder(pixels).float()[0]}

    def losses(self, windows: Sequence[Look]) -> Iterator[dict[str, Tensor]]:
        """Yield cross entropy and Dice loss of all windows together, half of each."""
        targets = [self._target(window) for window in windows]
        if self._adapts:
            pairs = [
                self._varied(window.inputs["rgb"], target)
                for window, target in zip(windows, targets, strict=True)
            ]
            logits = self._logits(torch.stack([self._pixels.scaled(rgb) for rgb, _ in pairs]))
            targets = [target for _, target in pairs]
        else:
            kept = torch.stack([window.kept["embedding"].float() for window in windows])
            logits = self.module.mask_decoder(kept, self._size)
        target = torch.stack(targets)
        weights = WEIGHTS if logits.shape[1] == len(WEIGHTS) else None
        yield {
            "loss_dice": 0.5 * dice_loss(logits, target),
            "loss_ce": 0.5 * cross_entropy(logits, target, weights),
        }

    def likely(self, window: Look) -> NDArray[np.float32]:
        """Return the probabilities of the classes, see `FindsAreas`."""
        areas = window.truth.areas
        height, width = self._size if areas is None else areas.shape
        with torch.no_grad():
            if self._adapts:
                logits = self._logits(self._pixels.scaled(window.inputs["rgb"])[None])
            else:
                embedding = window.kept["embedding"].float()[None]
                logits = self.module.mask_decoder(embedding, self._size)
        found = logits.softmax(1)[0, 1:, :height, :width]
        return np.asarray(found.float().cpu().numpy(), np.float32)

    def optimiser(self, rate: float) -> Optimizer:
        """Return stochastic gradient descent with momentum, weight decay on all."""
        learns = [part for part in self.module.parameters() if part.requires_grad]
        return torch.optim.SGD(learns, lr=rate, momentum=MOMENTUM, weight_decay=DECAY)

    def pace(self, step: int, per_epoch: int, epochs: int) -> float:
        """Return the recipe's course of the rate, see `napari_histosam.models.sam_lung.loss`."""
        return pace(step, per_epoch, epochs)

    def teach(self, on: bool, epoch: int = 0) -> None:
        """Switch dropout and the statistics of norms, of what learns alone."""
        self.module.mask_decoder.train(on)
        if self._adapts:
            for part in mona_parts(self.module):
                part.train(on)

    def state(self) -> dict[str, Tensor]:
        """Return what is trained, the norms' statistics included, under the authors' names."""
        return {
            name: value
            for name, value in learned_state(self.module).items()
            if self._adapts or name.startswith(_DECODER)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` returned."""
        own = {published_name(name): name for name in self.module.state_dict()}
        self.module.load_state_dict({own[k]: v for k, v in state.items()}, strict=False)

    @property
    def _size(self) -> tuple[int, int]:
        return self._pixels.side, self._pixels.side

    def _logits(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.module(pixels, self._size)
        return out

    def _target(self, window: Look) -> Tensor:
        """Return the areas of a window's square, (side, side) uint8."""
        areas = window.truth.areas
        assert areas is not None
        found = torch.from_numpy(areas).to(window.inputs["rgb"].device)
        missing = [self._pixels.side - length for length in areas.shape]
        return functional.pad(found, (0, missing[1], 0, missing[0]), value=UNKNOWN)

    def _varied(self, rgb: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return pixels, 0 to 1, and areas by one of the square's symmetries, in other colours."""
        drawn = int(torch.randint(8, ()))
        turned = [torch.rot90(x, drawn % 4, (-2, -1)) for x in (rgb, target)]
        if drawn >= 4:
            turned = [x.flip(-1) for x in turned]
        return self._jitter(turned[0].float() / 255), turned[1]


def _with_outputs(net: SamLung, count: int) -> None:
    """Give the classifier so many outputs; each class begins as the mean of those that it has."""
    old = net.mask_decoder.classifier
    new = torch.nn.Conv2d(old.in_channels, count, 1)
    with torch.no_grad():
        for ours, theirs in ((new.weight, old.weight), (new.bias, old.bias)):
            assert ours is not None
            assert theirs is not None
            ours[0] = theirs[0]
            ours[1:] = theirs[1:].mean(0)
        # Together they are as likely as before.
        assert new.bias is not None
        new.bias[1:] -= float(np.log((count - 1) / (old.out_channels - 1)))
    net.mask_decoder.classifier = new
