"""How peers train in their published examples, written anew from their settings, for data of ours.

An example is begun with `draw`, n ↦ a batch of points and their labels, and the size of its batches. Its learning rate
stays what it is. In the plane samples start at N(0, I), and data are multiplied to the size of the peer's own: the peer
lab's board is [−5, 5]², torchcfm's moons are three times scikit-learn's, flow_matching's board is ours divided by 0.45.
For images both libraries have guided-diffusion's U-Net, which comes with torchcfm (`make bench` installs it).
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Draw = Callable[[int], tuple[Tensor, Tensor | None]]
Field = Callable[[Tensor, Tensor], Tensor]


class Example(NamedTuple):
    """losses: each takes a step of training. field: labels ↦ u(x, t) as it is then, of `scale` times the data."""

    losses: Iterator[float]
    field: Callable[[Tensor | None], Field]
    scale: float = 1.0


def losses(optimiser: torch.optim.Optimizer, loss: Callable[[], Tensor], then=lambda: None) -> Iterator[float]:
    """Steps without end."""
    while True:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        optimiser.step()
        then()
        yield float(value.detach())


def line(z: Tensor, t: Tensor, width: float = 0.0) -> tuple[Tensor, Tensor]:
    """States at the times t on lines from N(0, I) to z, and the velocity. width: standard deviation around a line."""
    r, x0 = t.reshape(-1, *[1] * (z.ndim - 1)), torch.randn_like(z)
    return r * z + (1 - r) * x0 + width * torch.randn_like(z), z - x0


# --- in the plane -----------------------------------------------------------------------------------------------------


def peer_lab(draw: Draw, batch: int = 2000) -> Example:
    """The second lab of the closest peer (6.S184)."""
    return in_plane(draw, batch, TimeAppended([64] * 4, nn.SiLU), 2.5)


def torchcfm_plane(draw: Draw, batch: int = 256) -> Example:
    """torchcfm's tutorial of flow matching in the plane, from N(0, I) in place of eight Gaussians."""
    return in_plane(draw, batch, TimeAppended([64] * 3, nn.SELU), 3 / math.sqrt(2), 0.01)


def flow_matching_plane(draw: Draw, batch: int = 4096) -> Example:
    """flow_matching's example of a checkerboard."""
    return in_plane(draw, batch, TimeAppended([512] * 4, nn.SiLU), 1 / 0.45)


def in_plane(draw: Draw, batch: int, model: nn.Module, scale: float, width: float = 0.0) -> Example:
    def loss():
        t = torch.rand(batch, 1)
        x, velocity = line(scale * draw(batch)[0], t, width)
        return (model(x, t) - velocity).square().mean()

    return Example(losses(torch.optim.Adam(model.parameters()), loss), lambda y: model, scale)


class TimeAppended(nn.Sequential):
    """A fully connected network of (x, t). widths: of the hidden layers."""

    def __init__(self, widths: list[int], activation: type[nn.Module]):
        sizes = [3, *widths, 2]
        layers = [layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), activation())]
        super().__init__(*layers[:-1])

    def forward(self, x: Tensor, t) -> Tensor:
        return super().forward(torch.cat([x, torch.as_tensor(t).expand(len(x), 1)], dim=1))


# --- images -----------------------------------------------------------------------------------------------------------


def torchcfm_images(draw: Draw, batch: int = 128) -> Example:
    """torchcfm's example of MNIST with labels; of 8 × 8 pixels with the levels that it has for 28 × 28."""
    from torchcfm.models.unet import UNetModel

    side = draw(1)[0].shape[-1]
    levels = {8: (1, 2, 2)}.get(side)
    model = UNetModel((1, side, side), 32, num_res_blocks=1, channel_mult=levels, num_classes=10, class_cond=True)

    def loss():
        (z, y), t = draw(batch), torch.rand(batch)
        x, velocity = line(z, t)
        return (model(t, x, y) - velocity).square().mean()

    return Example(losses(torch.optim.Adam(model.parameters()), loss), lambda y: lambda x, t: model(t, x, y))


def flow_matching_images(draw: Draw, batch: int = 64) -> Example:
    """flow_matching's command for CIFAR-10, with 32 channels in place of 128: a step took eight times as long.

    torchcfm has as many fewer for grey digits than for CIFAR-10.
    """
    from torchcfm.models.unet.unet import UNetModel

    model = UNetModel(
        image_size=draw(1)[0].shape[-1],
        in_channels=1,
        model_channels=32,
        out_channels=1,
        num_res_blocks=4,
        attention_resolutions=(2,),
        dropout=0.3,
        channel_mult=(2, 2, 2),
        conv_resample=False,
        use_scale_shift_norm=True,
        use_new_attention_order=True,
    )
    average = AveragedModel(model, avg_fn=lambda mean, new, k: new.lerp(mean, min(0.999, (1 + k) / (10 + k)))).eval()

    def loss():
        t = (1 / (1 + (1.2 * torch.randn(batch) - 1.2).exp())).clamp(min=1e-4)
        x, velocity = line(draw(batch)[0], t)
        return (model(x=x, t=t) - velocity).square().mean()

    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95))
    return Example(
        losses(adam, loss, lambda: average.update_parameters(model)), lambda y: lambda x, t: average(x=x, t=t)
    )


PLANE: dict[str, Callable[..., Example]] = {"torchcfm": torchcfm_plane, "flow_matching": flow_matching_plane}
IMAGES: dict[str, Callable[..., Example]] = {"torchcfm": torchcfm_images, "flow_matching": flow_matching_images}
