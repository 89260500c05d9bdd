"""SAM, of any size, as it is fine-tuned: decoder alone, with LoRA, with Mona adapters, or all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from segment_anything.modeling import ImageEncoderViT
from torch.utils.checkpoint import checkpoint

from napari_histosam.models.prompts import check_image
from napari_histosam.models.sam.build import BUNDLED, SIDE, published_names
from napari_histosam.models.sam.decode import answers, gathered, layout
from napari_histosam.models.sam.frame import LOW, Frame
from napari_histosam.models.sam.lora import add_lora
from napari_histosam.models.sam.loss import per_object
from napari_histosam.models.sam.mona import add_mona, mona_parts
from napari_histosam.models.trainable import Answers, Place, check_method, trained_state

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from segment_anything.modeling import Sam
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.losses import PerObject
    from napari_histosam.models.protocols import ObjectPrompts
    from napari_histosam.models.trainable import Method, NetPrompts

METHODS: tuple[Method, ...] = ("decoder", "lora", "mona", "full")
# MobileSAM's encoder has no blocks that Mona adapters fit into, the bundled one no attention.
_TINY_METHODS: tuple[Method, ...] = ("decoder", "lora", "full")
_BUNDLED_METHODS: tuple[Method, ...] = ("decoder", "full")
_RATES = {"decoder": 1e-4, "lora": 1e-4, "mona": 1e-4, "full": 1e-5}
_NET = 2 * LOW


def methods_for(variant: str | None) -> tuple[Method, ...]:
    """Return the methods by which a SAM of a size can be trained."""
    return {"vit_t": _TINY_METHODS, BUNDLED: _BUNDLED_METHODS}.get(variant or "", METHODS)


class SamTrainable:
    """Segment Anything as a `Trainable`.

    Windows are squares of SAM's 1024 px; a place is always the whole of one, at 512 net px.

    Parameters
    ----------
    card : ModelCard
    sam : Sam
        With the base's weights; it is changed in place.
    method : {"decoder", "lora", "mona", "full"}

    Raises
    ------
    InputError
        If the method is another one, or does not exist for this encoder.
    """

    object_px = 64.0

    def __init__(self, card: ModelCard, sam: Sam, method: str) -> None:
        self.card = card
        self.method = check_method(card, method, methods_for(card.variant))
        self.rate = _RATES[self.method]
        self._names = {ours: name for name, ours in published_names(sam).items()}
        self.module: Any = sam.requires_grad_(False).eval()
        sam.mask_decoder.requires_grad_(True)
        if method == "full":
            sam.requires_grad_(True)
        before = {id(part) for part in sam.parameters()}
        if method == "lora":
            add_lora(sam.image_encoder)
        elif method == "mona" and not mona_parts(sam):
            add_mona(sam.image_encoder)
        for part in sam.parameters():
            if id(part) not in before:
                part.requires_grad_(True)
        if method == "mona":
            for adapter in mona_parts(sam):
                adapter.requires_grad_(True)

    def prepare(self, *images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return ``"pixels"`` (3, 1024, 1024) float32 of a window (h, w, 3)."""
        (image,) = images
        check_image(image)
        frame = Frame((image.shape[1], image.shape[0]))
        return {"pixels": frame.image(image, self.card.pixels)[0]}

    def needed(self, places: Collection[Place]) -> set[str]:
        """Return the one input that there is."""
        return {"pixels"}

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``"embedding"`` (n, 256, 64, 64)."""
        encoder, pixels = self.module.image_encoder, inputs["pixels"]
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in encoder.parameters())
        if not (learns and isinstance(encoder, ImageEncoderViT)):
            return {"embedding": encoder(pixels)}
        # One block's activations at a time: the attention over a whole window is large.
        x = encoder.patch_embed(pixels)
        if encoder.pos_embed is not None:
            x = x + encoder.pos_embed
        for block in encoder.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return {"embedding": encoder.neck(x.permute(0, 3, 1, 2))}

    def places(
        self, prompts: ObjectPrompts, earlier: NDArray[np.float32] | None, size: tuple[int, int]
    ) -> list[Place]:
        """Return the whole window."""
        return [Place(0, 0, _NET, _NET, max(size) / _NET)]

    def decode(
        self,
        features: Mapping[str, Tensor],
        of: Sequence[int],
        places: Sequence[Place],
        prompts: Sequence[NetPrompts],
    ) -> list[Answers]:
        """Answer prompts; objects of one layout go through the decoder together."""
        groups: dict[tuple[int, bool, bool], list[int]] = {}
        for row, one in enumerate(prompts):
            groups.setdefault(layout(one), []).append(row)
        embedding = features["embedding"]
        out = []
        for rows in groups.values():
            chosen = torch.tensor([of[r] for r in rows], device=embedding.device)
            batch = gathered([prompts[r] for r in rows], SIDE / _NET, str(embedding.device))
            seen = embedding[chosen].float()
            out.append(Answers(tuple(rows), *answers(self.module, seen, batch)))
        return out

    def shown(self, answers: Answers, ambiguous: Tensor) -> Tensor:
        """Return the best of the last three masks for a single click, else the first mask."""
        return torch.where(ambiguous, 1 + answers.scores[:, 1:].argmax(1), 0)

    def estimates(self, answers: Answers) -> Tensor:
        """Return the predicted IoUs (k, 4)."""
        return answers.scores.float().clamp(0, 1)

    def loss(
        self,
        answers: Answers,
        truth: Tensor,
        areas: Tensor,
        ambiguous: Tensor,
        around: Tensor | None = None,
    ) -> PerObject:
        """Return SAM's own loss for each object."""
        return per_object(answers.logits, answers.scores, truth, areas, ambiguous)

    def pace(self, name: str) -> float:
        """Return 1: all learns at one rate."""
        return 1.0

    def teach(self, on: bool, epoch: int = 0) -> None:
        """Switch the dropout of adapters; all else stays as in use."""
        for adapter in mona_parts(self.module):
            adapter.dropout.train(on)

    def state(self) -> dict[str, Tensor]:
        """Return the trained parameters under SAM's published names, float32."""
        return {self._published(k): v for k, v in trained_state(self.module).items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take trained parameters."""
        own = {self._published(name): name for name, _ in self.module.named_parameters()}
        self.module.load_state_dict({own[k]: v for k, v in state.items()}, strict=False)

    def _published(self, name: str) -> str:
        if name in self._names:
            return self._names[name]
        # An update of a layer stands beside that layer's weight.
        stem, _, last = name.rpartition(".")
        weight = self._names.get(f"{stem}.weight")
        return name if weight is None else f"{weight.removesuffix('weight')}{last}"
