"""Hidden tests of lab 0: other shapes and dtypes, both ends of the way."""

import torch

from course.hidden import check
from fmlab.checks.compare import require_close
from fmlab.checks.inputs import states
from fmlab.checks.lab0 import require_noise

DOUBLE = torch.float64


@check("the text above the exercise")
def draw_noise(answer):
    for n, d in ((30_000, 1), (5_000, 8)):
        require_noise(answer(n, d), n, d)


@check("the text above the exercise (the straight path)")
def interpolate(answer):
    noise, data = states(11, 3, 1, 4, 4, dtype=DOUBLE), states(12, 3, 1, 4, 4, dtype=DOUBLE)
    require_close(answer(noise, data, 0.0), noise, "the images at t = 0")
    require_close(answer(noise, data, 1.0), data, "the images at t = 1")
    t = torch.tensor(0.75, dtype=DOUBLE)
    require_close(answer(noise, data, t), noise / 4 + 3 * data / 4, "the images at t = 3/4, as a tensor")
