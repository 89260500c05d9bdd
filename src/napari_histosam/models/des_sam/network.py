"""DES-SAM's network around any SAM: pyramid, detector, and the mask decoder twice.

DES-SAM, MICCAI 2024, paper 2521. Encoder, prompt encoder and both mask decoders are a SAM's and
stay as they are; what learns are pyramid, detector and one token.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_histosam.models.des_sam.decoder import looked, mask_logits
from napari_histosam.models.des_sam.detector import Proposer, RegionHead
from napari_histosam.models.des_sam.pyramid import WIDTH, Pyramid
from napari_histosam.models.sam.build import published_names

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor

    from napari_histosam.models.sam.prompts import PromptBatch

LEARNED = "roi_head.mask_head.learned_prompt.weight"
# Ours -> upstream's, of all that upstream calls otherwise.
_RENAMES = (
    (r"^rpn\.head\.conv\.(\d)\.0\.", r"rpn_head.rpn_conv.\1.conv."),
    (r"^rpn\.head\.cls_logits\.", "rpn_head.rpn_cls."),
    (r"^rpn\.head\.bbox_pred\.", "rpn_head.rpn_reg."),
    (r"^box_head\.trunk\.([0-3])\.0\.", r"roi_head.bbox_head.shared_convs.\1.conv."),
    (r"^box_head\.trunk\.5\.", "roi_head.bbox_head.shared_fcs.0."),
    (r"^box_head\.", "roi_head.bbox_head."),
    (r"^prompt_encoder\.", "roi_head.prompt_encoder."),
    (r"^learned_prompt\.", "roi_head.mask_head.learned_prompt."),
    (r"^student\.", "roi_head.mask_head."),
    (r"^teacher\.", "roi_head.mask_label_head."),
)


class DesSam(nn.Module):
    """DES-SAM.

    Parameters
    ----------
    sam : Sam
        Its parts are taken over; the encoder may be any that returns (n, 256, 64, 64).
    classes : int
        Without the background.
    """

    def __init__(self, sam: Sam, classes: int = 1) -> None:
        super().__init__()
        self.backbone = sam.image_encoder
        self.neck = Pyramid()
        self.rpn = Proposer()
        self.box_head = RegionHead(classes)
        self.prompt_encoder = sam.prompt_encoder
        self.student = sam.mask_decoder
        if hasattr(self.student, "iou_prediction_head"):
            del self.student.iou_prediction_head
        self.teacher = copy.deepcopy(self.student)
        self.learned_prompt = nn.Embedding(1, WIDTH)
        encoders = published_names(sam)
        start = "image_encoder."
        self._encoder_names = {
            ours.removeprefix(start): name.removeprefix(start)
            for name, ours in encoders.items()
            if name.startswith(start)
        }

    def names(self) -> dict[str, str]:
        """Return upstream's name -> own name of every entry of the state dict."""
        return {self.published(name): name for name in self.state_dict()}

    def published(self, name: str) -> str:
        """Return upstream's name of an entry."""
        if name.startswith("backbone."):
            own = name.removeprefix("backbone.")
            return f"backbone.{self._encoder_names.get(own, own)}"
        for pattern, replacement in _RENAMES:
            if re.search(pattern, name):
                return re.sub(pattern, replacement, name)
        return name

    def taught(self) -> list[nn.Module]:
        """Return the parts that learn."""
        return [self.neck, self.rpn, self.box_head, self.learned_prompt]

    def box_masks(self, embedding: Tensor, boxes: Tensor, token: bool = True) -> Tensor:
        """Return the student's logits (n, 256, 256) of boxes (n, 4), px of the square."""
        learned = self.learned_prompt.weight if token else None
        return self._masks(self.student, embedding, None, boxes, None, learned)

    def taught_masks(self, embedding: Tensor, boxes: Tensor) -> Tensor:
        """Return the teacher's logits (n, 256, 256) of boxes (n, 4), px of the square."""
        return self._masks(self.teacher, embedding, None, boxes, None, None)

    def prompted_masks(self, embedding: Tensor, batch: PromptBatch) -> Tensor:
        """Return the logits (n, 256, 256) of any of SAM's prompts, without the learned token."""
        return self._masks(self.student, embedding, batch.points, batch.boxes, batch.masks, None)

    def _masks(
        self,
        decoder: nn.Module,
        embedding: Tensor,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        learned: Tensor | None,
    ) -> Tensor:
        sparse, dense = self.prompt_encoder(points, boxes, masks)
        positions = self.prompt_encoder.get_dense_pe()
        seen = looked(decoder, embedding, positions, sparse, dense, learned)
        return mask_logits(decoder, seen).float()


def begin(net: DesSam) -> None:
    """Draw the weights that no SAM has, as the authors begin with them."""
    for module in net.neck.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.LayerNorm)):
            module.reset_parameters()
        elif hasattr(module, "eps"):  # SAM's layer norm over channels
            nn.init.ones_(module.weight)  # type: ignore[arg-type]
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    for module in net.rpn.modules():
        if isinstance(module, nn.Conv2d):
            _drawn(module, lambda w: nn.init.normal_(w, std=0.01))
    for module in net.box_head.trunk.modules():
        if isinstance(module, nn.Conv2d):
            _drawn(module, lambda w: nn.init.kaiming_normal_(w, mode="fan_out"))
        elif isinstance(module, nn.Linear):
            _drawn(module, nn.init.xavier_uniform_)
    _drawn(net.box_head.fc_cls, lambda w: nn.init.normal_(w, std=0.01))
    _drawn(net.box_head.fc_reg, lambda w: nn.init.normal_(w, std=0.001))
    with torch.no_grad():
        nn.init.normal_(net.learned_prompt.weight)


def _drawn(module: nn.Conv2d | nn.Linear, draw) -> None:  # type: ignore[no-untyped-def]
    draw(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
