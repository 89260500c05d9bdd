"""From the bundled weights file to a prompt model; and from a trained network to such a file."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import read_checkpoint, shapes
from napari_histosam.models.detect import mismatch
from napari_histosam.models.devices import choose_device
from napari_histosam.models.files import write_bytes_atomic
from napari_histosam.models.small.model import SmallModel
from napari_histosam.models.small.network import SmallNet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard

_log = logging.getLogger(__name__)


def small_model(
    card: ModelCard,
    state: Mapping[str, Tensor],
    source: str,
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    others: Sequence[ModelCard] = (),
) -> SmallModel:
    """Make a prompt model of the bundled network's weights.

    Arguments as `napari_histosam.models.families.Family.model` has them; there are no other sizes.
    """
    net = filled_net(state, source)
    chosen = choose_device(device)
    (say or _log.info)(chosen.message)
    return SmallModel(card, net.for_inference(), weights_hash, chosen.name, say)


def load_net(path: Path, *, judged: bool = True) -> SmallNet:
    """Return the network in a weights file, in eval mode, as it can be trained on.

    Parameters
    ----------
    path : Path
    judged : bool
        Whether the file has to hold the judge, which learns last; where it lacks it, its weights
        stay as they were drawn.

    Raises
    ------
    InputError
        If the file cannot be read or does not fit.
    """
    state = read_checkpoint(path)
    if not judged:
        fresh = {n: v for n, v in SmallNet().state_dict().items() if n.startswith("judge.")}
        state = {**fresh, **state}
    return filled_net(state, str(path))


def filled_net(state: Mapping[str, Tensor], source: str) -> SmallNet:
    """Return a network with these weights, in eval mode, float32; ``source`` is for messages.

    Raises
    ------
    InputError
        If names or shapes do not fit.
    """
    net = SmallNet()
    wrong = mismatch(shapes(net.state_dict()), shapes(state))
    if wrong is not None:
        raise InputError(
            f"{source} does not fit histosam-small ({wrong}): choose a file of this model."
        )
    net.load_state_dict({name: _plain(value) for name, value in state.items()})
    return net.eval()


def save_net(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a network's weights as float16 safetensors, atomically."""
    from safetensors.torch import save

    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in state.items()
    }
    write_bytes_atomic(path, save(half))


def _plain(value: Tensor) -> Tensor:
    return value.to(torch.float32) if value.is_floating_point() else value
