"""Lab 0: noise, and the straight way from it to data.

Noise is judged by its moments, at six standard errors and more; the straight way by a closed form.
"""

import torch

from fmlab.checks import judges
from fmlab.checks.compare import fail
from fmlab.checks.exercise import Case
from fmlab.checks.inputs import states
from fmlab.checks.lab import Lab

lab = Lab("lab0")


def independent_noise(answer, case):
    """(n, d) independent draws of N(0, 1), new ones at each call."""
    noise = answer(*case.args)
    if isinstance(noise, torch.Tensor) and noise.shape == case.args[::-1] != case.args:
        fail(f"the noise should have shape (n, d) = {case.args}, found {case.args[::-1]}: a row for each point")
    judges.drawn(noise, case.args, "the noise")
    yield from judges.normal(noise)
    yield from judges.fresh(answer, case)


@lab.exercise(
    reread=("eq-noise", "the text above the exercise"),
    passed="independent normal numbers, new ones at each call",
    hints=(
        "PyTorch draws random numbers of several kinds. Which of its functions draws standard normal ones?",
        "torch.rand draws uniform numbers between 0 and 1; the n in torch.randn is for normal.",
        "Give torch.randn the two numbers of the shape, n first, and return what it draws.",
    ),
    library=torch.randn,
    judge=independent_noise,
    random=True,
    visible=[(20_000, 3), (5_000, 8), (30_000, 1)],
    mistakes={
        "this is torch.rand, evenly between 0 and 1; normal numbers come from torch.randn": torch.rand,
        "uniform numbers were moved to mean 0; normal ones come from torch.randn": lambda n, d: torch.rand(n, d) - 0.5,
        "uniform numbers were scaled to spread 1; normal ones come from torch.randn": lambda n, d: (
            12**0.5 * (torch.rand(n, d) - 0.5)
        ),
        "the mean is 1 instead of 0": lambda n, d: 1 + torch.randn(n, d),
        "the standard deviation is 2 instead of 1": lambda n, d: 2 * torch.randn(n, d),
        "one number was drawn for all coordinates of a point": lambda n, d: torch.randn(n, 1).expand(n, d),
    },
)
def draw_noise(n, d):
    return Case("the noise", (n, d))


@lab.exercise(
    reread=("eq-path", "the straight path, above the exercise"),
    passed="noise at t = 0, data at t = 1, and a straight line between",
    hints=(
        "What should come out at t = 0, and what at t = 1? Halfway, at t = ½, it is the mean of the two.",
        "The weights of noise and data add up to 1, and that of the data is t.",
        "Multiply noise by 1 − t and data by t, and return the sum.",
    ),
    library=torch.lerp,
    visible=[((5, 2), 0.3), ((4, 1, 2, 3), torch.tensor(0.85), torch.float64), ((1, 3), 0.0), ((2, 2), 1.0)],
    mistakes={
        "noise and data are exchanged: t = 0 should be the noise, t = 1 the data": lambda e, z, t: t * e + (1 - t) * z,
        "the noise keeps the weight 1; it should be 1 − t": lambda e, z, t: e + t * z,
        "the data keep the weight 1; it should be t": lambda e, z, t: (1 - t) * e + z,
        "both have the weight t": lambda e, z, t: t * (e + z),
        "both have the weight 1 − t": lambda e, z, t: (1 - t) * (e + z),
        "the sign between the two parts is wrong": lambda e, z, t: (1 - t) * e - t * z,
        "t is missing: this is always the middle": lambda e, z, t: (e + z) / 2,
        "this is the velocity, data − noise, not the position": lambda e, z, t: z - e,
        "the points move away from the data: t (data − noise) is to be added": lambda e, z, t: e + t * (e - z),
        "the start is missing: add t (data − noise) to the noise": lambda e, z, t: t * (z - e),
        "the squares of the weights add up to 1; here the weights themselves do": lambda e, z, t: (
            (1 - t**2) ** 0.5 * e + t * z
        ),
        "the data alone is returned": lambda e, z, t: z,
        "the noise alone is returned": lambda e, z, t: e,
        "the two parts were returned as a pair; add them": lambda e, z, t: ((1 - t) * e, t * z),
    },
)
def interpolate(shape, t, dtype=torch.float32):
    noise, data = states(1, *shape, dtype=dtype), states(2, *shape, dtype=dtype)
    return Case(f"the state of shape {shape} at t = {float(t):g}", (noise, data, t), noise + t * (data - noise))
