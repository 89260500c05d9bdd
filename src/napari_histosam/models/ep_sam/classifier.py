"""EP-SAM's classifier of patches: a ResNet-50 that also sees fine detail and is kept from staring.

He et al. 2016, arXiv 1512.03385, with a fourth input channel and a last stage that keeps its grid;
attention-based dropout: Choe & Shim 2019, arXiv 1908.10028. Names are those of EP-SAM's files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

if TYPE_CHECKING:
    from torchvision.models import ResNet

DROP_RATE, DROP_FROM = 0.75, 0.8


class AttentionDropout(nn.Module):
    """In training, hides the places that are looked at most, or weighs all places; else nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape; one draw decides for the whole batch."""
        if not self.training:
            return x
        return hidden(x) if float(torch.rand(())) < DROP_RATE else weighed(x)


def hidden(x: Tensor) -> Tensor:
    """Return features without the places whose mean reaches 0.8 of the picture's largest."""
    seen = x.mean(1, keepdim=True)
    return x * (seen < DROP_FROM * seen.amax((2, 3), keepdim=True))


def weighed(x: Tensor) -> Tensor:
    """Return features weighed by the sigmoid of their mean."""
    return x * x.mean(1, keepdim=True).sigmoid()


def detail(x: Tensor) -> Tensor:
    """Return what is left of pictures without their lowest frequencies: (n, 1, h, w).

    Frequencies 0 and -1 of both axes are taken away; channels are averaged. It depends on the
    picture's extent, so it has to be the patch that the network sees.

    Parameters
    ----------
    x : (n, 3, h, w) tensor
    """
    found = torch.fft.fft2(x)
    rows, columns = torch.meshgrid(
        *(torch.tensor([0, side - 1], device=x.device) for side in x.shape[-2:]), indexing="ij"
    )
    found[..., rows, columns] = 0
    return torch.fft.ifft2(found).real.abs().mean(1, keepdim=True)


class PatchClassifier(nn.Module):
    """Tells whether a patch holds tumour.

    Parameters are initialised as the authors do it: by Xavier's rule, from nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        net: ResNet = resnet50(weights=None, num_classes=1)
        self.conv1 = nn.Conv2d(4, 64, 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu, self.maxpool = net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2 = net.layer1, net.layer2
        first = net.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
        # The dropouts have no parameters, but places in the names.
        self.layer3 = nn.Sequential(net.layer3[0], AttentionDropout(), *net.layer3[1:])
        self.layer4 = nn.Sequential(first, AttentionDropout(), *net.layer4[1:], AttentionDropout())
        self.fc = net.fc
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.xavier_uniform_(part.weight)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def features(self, x: Tensor) -> Tensor:
        """Return what the heat map is made of: (n, 2048, h / 16, w / 16).

        Parameters
        ----------
        x : (n, 3, h, w) tensor
            RGB of 0 to 1, as the card's channel order has it.
        """
        x = torch.cat([x, detail(x)], 1)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        out: Tensor = self.layer4[0](x)
        return out

    def judged(self, features: Tensor) -> Tensor:
        """Return logits (n,) from `features`."""
        out: Tensor = self.fc(self.layer4[1:](features).mean((2, 3)))
        return out[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n,) that patches hold tumour; see `features`."""
        return self.judged(self.features(x))

    def heat(self, features: Tensor) -> Tensor:
        """Return how much each place speaks for tumour: (n, h / 16, w / 16), not bounded.

        The last layer's weights, applied to an earlier block than they were learned for, as the
        authors do it.
        """
        return torch.einsum("nchw,c->nhw", features, self.fc.weight[0])
