"""I-MedSAM as it is trained: low-rank updates, adapters, implicit networks, by boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from napari_histosam.models.i_medsam.field import RATIO, energy, most
from napari_histosam.models.i_medsam.frame import in_square, on_grid, pixels, region_of
from napari_histosam.models.i_medsam.load import network
from napari_histosam.models.i_medsam.loss import loss
from napari_histosam.models.i_medsam.network import published_names
from napari_histosam.models.losses import PerObject, ious
from napari_histosam.models.prompts import check_image
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.sam.frame import Frame
from napari_histosam.models.sam.prompts import batches
from napari_histosam.models.single_answer import SingleAnswer
from napari_histosam.models.trainable import Answers, Place, check_method
from napari_histosam.models.wsi_sam.loss import enlarged

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.i_medsam.points import Sampler
    from napari_histosam.models.parts import Part
    from napari_histosam.models.trainable import Method, NetPrompts

METHODS: tuple[Method, ...] = ("lora", "decoder")
# Upstream's: the implicit networks at the full rate, all else at a twentieth of it.
_RATE, _SLOW = 1e-3, 0.05
_FIELD = "mask_decoder.seg_field.seg_net."
_DECODER = (
    f"{_FIELD}0.",
    f"{_FIELD}1.",
    f"{_FIELD}2.0.",  # the first class's heads, the ones in use
    f"{_FIELD}3.0.",
    "mask_decoder.output_upscaling.",
    # Corners of boxes and "no mask": what else encodes prompts gets no gradient from boxes.
    "prompt_encoder.point_embeddings.2.",
    "prompt_encoder.point_embeddings.3.",
    "prompt_encoder.no_mask_embed.",
)
_ENCODER = (".qkv.down.", ".qkv.up.", ".qkv.gate", ".freq_adapter.")
_PART = "adapted/"
# The logit of what lies too far from the box to be drawn.
_OUTSIDE = -16.0


class IMedSamTrainable(SingleAnswer):
    """I-MedSAM as a `Trainable`.

    ``lora`` is upstream's recipe: gated low-rank updates and frequency adapters in the encoder, the
    upscaling, the implicit networks, the codes of a box. ``decoder`` leaves the encoder as it is.
    As in use, an object is drawn in the part around its box, with the fine network at the points of
    highest energy. Batch norms keep their statistics, no dropout is drawn and all coordinates are
    shown from the start: what a point gets must not hang on what else is in a batch.

    Parameters
    ----------
    card : ModelCard
    parts : mapping of str to Part
        ``"encoder"`` and ``"adapted"``.
    method : {"lora", "decoder"}

    Raises
    ------
    InputError
        If the method is another one, or a part does not fit.
    """

    object_px = 192.0

    def __init__(self, card: ModelCard, parts: Mapping[str, Part], method: str) -> None:
        self.card = card
        self.rate = _RATE
        net = network(parts, card.window_px)
        self.method = check_method(card, method, METHODS if net.projections else METHODS[1:])
        self._names = {own: f"{_PART}{name}" for name, own in published_names(net).items()}
        self.module: Any = net.requires_grad_(False)
        for name, part in net.named_parameters():
            adapts = method == "lora" and any(one in name for one in _ENCODER)
            part.requires_grad_(adapts or name.startswith(_DECODER))
        self._epoch = 0

    def prepare(self, *images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return ``"pixels"`` (3, side, side) float32 of a window (h, w, 3)."""
        (image,) = images
        check_image(image)
        return {"pixels": pixels(image, self.module.side)[0]}

    def needed(self, places: Collection[Place]) -> set[str]:
        """Return the one input that there is."""
        return {"pixels"}

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``"embedding"`` (n, 256, side / 16, side / 16)."""
        return {"embedding": self.module.image_encoder(inputs["pixels"])}

    def places(
        self, prompts: ObjectPrompts, earlier: NDArray[np.float32] | None, size: tuple[int, int]
    ) -> list[Place]:
        """Return the whole window."""
        return [Place(0, 0, size[0] // 2 * 2, size[1] // 2 * 2, 1.0)]

    def decode(
        self,
        features: Mapping[str, Tensor],
        of: Sequence[int],
        places: Sequence[Place],
        prompts: Sequence[NetPrompts],
    ) -> list[Answers]:
        """Answer prompts; objects of one layout and one size of window come together."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row, place in enumerate(places):
            groups.setdefault((place.width, place.height), []).append(row)
        out = []
        for size, rows in groups.items():
            out += self._of_size(features["embedding"], of, size, rows, prompts)
        return out

    def loss(
        self,
        answers: Answers,
        truth: Tensor,
        areas: Tensor,
        ambiguous: Tensor,
        around: Tensor | None = None,
    ) -> PerObject:
        """Return the recipe's loss: of the coarse network first, of the final mask later."""
        size = (int(truth.shape[1]), int(truth.shape[2]))
        final = enlarged(answers.logits[:, 0].float(), size)
        coarse = enlarged(answers.more["coarse"], size)
        total = loss(coarse, final, truth, self._epoch)
        with torch.no_grad():
            iou = ious(final[:, None] > 0, truth, areas)[:, 0]
            error = (self.estimates(answers)[:, 0] - iou).abs()
        return PerObject(total, total, error, iou)

    def pace(self, name: str) -> float:
        """Return 1 for the implicit networks, a twentieth for all else."""
        return 1.0 if name.startswith(_FIELD) else _SLOW

    def teach(self, on: bool, epoch: int = 0) -> None:
        """Remember the epoch, which the loss depends on; nothing is dropped."""
        if on:
            self._epoch = epoch

    def learned(self) -> dict[str, Any]:
        """Return the trained parameters as ``"adapted/name"``."""
        named = self.module.named_parameters()
        return {self._names[name]: part for name, part in named if part.requires_grad}

    def _of_size(
        self,
        embedding: Tensor,
        of: Sequence[int],
        size: tuple[int, int],
        rows: Sequence[int],
        prompts: Sequence[NetPrompts],
    ) -> list[Answers]:
        net, name = self.module, self.card.name
        told = [_in_window(prompts[row], size) for row in rows]
        asked = [in_square(one, size, net.side, name) for one in told]
        grid = size[1] // 2, size[0] // 2
        parts = [on_grid(region_of(one, size), size, grid) for one in told]
        frame = Frame((net.side, net.side), scaled=False)
        out = []
        for group in batches(asked, frame, len(asked)):
            at = torch.tensor([of[rows[n]] for n in group.numbers], device=embedding.device)
            maps = net.upscaled(embedding[at].float(), group.to(str(embedding.device)))
            shape = (len(group.numbers), *grid)
            coarse = torch.full(shape, _OUTSIDE, device=embedding.device)
            final, sure = coarse.clone(), []
            for row, number in enumerate(group.numbers):
                part = parts[number]
                first, last = self._drawn(net.sampler(maps[row], grid, part))
                place = row, slice(part.top, part.bottom), slice(part.left, part.right)
                coarse[place], final[place] = first, last
                seen = last.detach()
                certain = (seen / 2).tanh().abs().mean()
                sure.append(certain * (seen > 0).any())
            chosen = tuple(rows[n] for n in group.numbers)
            score = torch.stack(sure)[:, None]
            out.append(Answers(chosen, final[:, None], score, {"coarse": coarse}))
        return out

    def _drawn(self, sampler: Sampler) -> tuple[Tensor, Tensor]:
        """Return the coarse and the final logits (h, w) of a region, as `render.draw` does."""
        field = self.module.mask_decoder.seg_field
        inputs = sampler.rows(0, sampler.region.size[0])
        found = field.coarse(inputs).float()
        coarse = final = found[:, 0]
        chosen = most(energy(found.detach()), int(RATIO * len(found)))
        if len(chosen):
            fine = field.fine(inputs[chosen], found[chosen, 1:]).float()
            final = coarse.index_copy(0, chosen, fine)
        shape = sampler.region.size
        return coarse.reshape(shape), final.reshape(shape)


def _in_window(asked: NetPrompts, size: tuple[int, int]) -> ObjectPrompts:
    """Return prompts as the prompt model gets them; an earlier mask counts where no box is."""
    points = labels = box = mask = None
    if len(asked.points):
        points = np.array(asked.points, np.float64)
        labels = np.array(asked.labels, np.int64)
    if asked.box is not None:
        box = np.asarray(asked.box, np.float64)
    elif asked.previous is not None:
        shown = (np.asarray(asked.previous) > 0.5).astype(np.uint8)
        mask = cv2.resize(shown, size, interpolation=cv2.INTER_NEAREST).astype(bool)
    return ObjectPrompts(points, labels, box, mask)
