"""Hidden tests of lab 3: other shapes, dtypes, schedules and times, and laws that hold whatever the numbers are."""

import math

import torch

from course.hidden import check
from fmlab.checks.compare import fail, require, require_close, require_number
from fmlab.checks.inputs import states
from fmlab.checks.lab3 import Descent, Model, called, column, mean_square, require_plain, spread
from fmlab.distributions import GaussianMixture
from fmlab.paths import GaussianPath
from fmlab.schedules import CondOT

DOUBLE = torch.float64


class Powers:
    """α = t³, β = (1 − t)²: no schedule of the library, with nothing but what a loss needs."""

    def alpha(self, t):
        return torch.as_tensor(t) ** 3

    def beta(self, t):
        return (1 - torch.as_tensor(t)) ** 2

    def alpha_dot(self, t):
        return 3 * torch.as_tensor(t) ** 2

    def beta_dot(self, t):
        return 2 * (torch.as_tensor(t) - 1)


def batches():
    """Batches with as many points as coordinates, of one point, of images; one time for all, or one for each."""
    for seed, (shape, t) in enumerate(
        [
            ((3, 3), spread(3, DOUBLE)),
            ((1, 5), torch.tensor(0.35, dtype=DOUBLE)),
            ((4, 1, 4, 4), spread(4, DOUBLE)),
            ((3, 2, 2, 2), torch.tensor(0.8, dtype=DOUBLE)),
        ]
    ):
        yield states(2 * seed + 31, *shape, dtype=DOUBLE), states(2 * seed + 32, *shape, dtype=DOUBLE), t


@check("notes, example 13, eq. 31")
def conditional_flow_matching_loss(answer):
    for z, noise, t in batches():
        model, s = Model(-0.4, DOUBLE), column(t, z)
        found = answer(model, z, t, noise, Powers())
        x, target = s**3 * z + (1 - s) ** 2 * noise, 3 * s**2 * z - 2 * (1 - s) * noise
        model.require_called_with(x, t)
        model.require_loss(found, model.value(x, t) - target, tolerance=1e-6)
        perfect = answer(lambda x, t, target=target: target.clone().requires_grad_(), z, t, noise, Powers())
        require(abs(float(perfect)) < 1e-9, "the loss of a model that hits every target should be 0")
    z, noise = states(41, 500, 2), states(42, 500, 2)
    model = Model(0.3)
    found = answer(model, z, 0.25, noise, CondOT())
    x = 0.25 * z + 0.75 * noise
    model.require_called_with(x, 0.25)
    model.require_loss(found, model.value(x, 0.25) - (z - noise))


@check("notes, eq. 24, and the text above the exercise")
def marginal_flow_matching_loss(answer):
    for z, noise, t in batches():
        model, s = Model(-0.4, DOUBLE), column(t, z)
        x = s**3 * z + (1 - s) ** 2 * noise
        found = answer(model, z, t, noise, Powers(), lambda x, t: torch.sin(3 * x) + column(t, x))
        model.require_called_with(x, t)
        model.require_loss(found, model.value(x, t) - torch.sin(3 * x) - column(t, x), tolerance=1e-6)
        own = answer(lambda x, t: (2 * x).requires_grad_(), z, t, noise, Powers(), lambda x, t: 2 * x)
        require(abs(float(own)) < 1e-9, "the loss of the marginal field itself should be 0")


@check("the text above the exercise; notes, § 3.3")
def optimal_vector_field(answer):
    for seed, (shape, t) in enumerate([((3, 3), spread(3, DOUBLE)), ((4, 1, 4, 4), spread(4, DOUBLE)), ((1, 6), 0.5)]):
        for std in (0.3, 1.0, 2.5):
            mean, x = states(51 + seed, *shape[1:], dtype=DOUBLE), states(61 + seed, *shape, dtype=DOUBLE)
            s = column(t, x).clone().requires_grad_()
            size = (s**2 * std**2 + (1 - s) ** 2).sqrt()  # x_t = t m + size ξ moves with the derivative at fixed ξ
            rate = torch.autograd.grad(size.log().sum(), s)[0]
            expected = mean + rate * (x - s.detach() * mean)
            require_close(answer(x, t, mean, std), expected, "the field", tolerance=1e-6)
    x, mean = states(71, 5, 2, dtype=DOUBLE), torch.tensor([2.0, -1.0], dtype=DOUBLE)
    for t, expected in ((torch.tensor(0.0, dtype=DOUBLE), mean - x), (torch.tensor(1.0, dtype=DOUBLE), x)):
        require_close(answer(x, t, mean, 0.7), expected, f"the field at t = {float(t):g}", tolerance=1e-6)


@check("notes, algorithm 3; the text above the exercise")
def train_step(answer):
    """Least squares Σ (A w − b)² by gradient descent, whose steps are w − 2 r Aᵀ(A w − b)."""
    a, b, rate = states(81, 6, 3, dtype=DOUBLE), states(82, 6, dtype=DOUBLE), 0.02
    weights, log = torch.zeros(3, dtype=DOUBLE, requires_grad=True), []
    optimizer = Descent(weights, rate, log)
    expected = torch.zeros(3, dtype=DOUBLE)

    def loss(model):
        log.append("loss")
        return (model(a, 0.5) - b).square().sum()

    for _ in range(4):
        found = answer(lambda x, t: x @ weights, loss, optimizer)
        require_plain(found)
        require_number(found, float((a @ expected - b).square().sum()), "the loss returned", tolerance=1e-6)
        expected = expected - 2 * rate * a.T @ (a @ expected - b)
        require_close(weights.detach(), expected, "the weights after several steps", tolerance=1e-6)
    require(log.count("loss") == 4, "each step should compute the loss once")


@check("notes, algorithm 1")
def sample_flow(answer):
    for seed, (shape, ts) in enumerate(
        [
            ((3, 1, 4, 4), torch.linspace(0, 1, 8, dtype=DOUBLE) ** 2),
            ((1, 2), torch.tensor([0.3, 0.9], dtype=DOUBLE)),
            ((4, 3), torch.tensor([1.0, 0.7, 0.1], dtype=DOUBLE)),
        ]
    ):
        x0, weight = states(91 + seed, *shape, dtype=DOUBLE), torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
        h, grid = ts.diff(), ts[:-1]
        # u_t(x) = 2 x + cos t: Euler's steps in closed form, as sums over the steps still to come
        later = (1 + 2 * h).flip(0).cumprod(0).flip(0)
        expected = later[0] * x0 + (torch.cat([later[1:], later.new_ones(1)]) * h * grid.cos()).sum()
        found = answer(lambda x, t, w=weight: w * x + math.cos(t), x0, ts)
        require_close(found.detach(), expected, "the state at the last time", tolerance=1e-6)
        require(not found.requires_grad, "the samples still carry a gradient graph")
    mixture = GaussianMixture([[2.0, 0.0], [-2.0, 1.0]], 0.2)
    ends = answer(GaussianPath(CondOT()).marginal(mixture).vector_field, states(99, 4000, 2), torch.linspace(0, 1, 101))
    spread_out = (ends.mean(0) - mixture.mean).norm() + (ends.T.cov() - mixture.cov).norm()
    require(spread_out < 0.35, "samples along the exact field of a mixture should have its mean and covariance")


@check("the text above the exercise")
def energy_distance(answer):
    for x, y in (
        (states(101, 7, 1, 4, 4, dtype=DOUBLE), 1 + states(102, 5, 1, 4, 4, dtype=DOUBLE)),
        (states(103, 6, 3, dtype=DOUBLE), states(104, 6, 3, dtype=DOUBLE)),
        (states(105, 1, 2, dtype=DOUBLE), states(106, 9, 2, dtype=DOUBLE)),
    ):
        a, b = x.flatten(1).tolist(), y.flatten(1).tolist()
        xy, xx, yy = (
            sum(math.dist(p, q) for p in first for q in second) / (len(first) * len(second))
            for first, second in ((a, b), (a, a), (b, b))
        )
        require_number(answer(x, y), 2 * xy - xx - yy, "the energy distance", tolerance=1e-5)
        require_number(answer(y, x), 2 * xy - xx - yy, "the energy distance with both sets exchanged", tolerance=1e-5)
    one, other = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    require_number(answer(one, other), 10.0, "the energy distance of two points at distance 5")


@check("intro, ch. 2 (density along a trajectory)")
def log_likelihood(answer):
    for seed, shape in enumerate([(3, 3), (2, 1, 4, 4), (1, 5)]):
        x, d = states(111 + seed, *shape, dtype=DOUBLE), math.prod(shape[1:])
        ts = torch.linspace(0.1, 1, 6, dtype=DOUBLE) ** 2
        h, late = ts.diff(), ts[1:]
        factors = 1 - h * late.cos()  # u_t(x) = x cos t
        start = factors.prod() * x
        expected = -start.flatten(1).square().sum(1) / 2 - d / 2 * math.log(2 * math.pi) - d * (h * late.cos()).sum()
        found = answer(lambda x, t: x * math.cos(t), lambda x, t, d=d: x.new_full(x.shape[:1], d * math.cos(t)), x, ts)
        require_close(found.detach(), expected, "the log density along a linear field", tolerance=1e-6)

    x, ts = states(121, 4, 2, dtype=DOUBLE), torch.tensor([0.0, 0.5, 0.75], dtype=DOUBLE)
    middle = x - 0.25 * 0.75 * x**3  # u_t(x) = t x³, div u = 3 t Σ x²
    start = middle - 0.5 * 0.5 * middle**3
    integral = 0.25 * 0.75 * 3 * x.square().sum(1) + 0.5 * 0.5 * 3 * middle.square().sum(1)
    expected = -start.square().sum(1) / 2 - math.log(2 * math.pi) - integral
    found = answer(lambda x, t: t * x**3, lambda x, t: 3 * t * x.square().sum(1), x, ts)
    require_close(found.detach(), expected, "the log density along a cubic field", tolerance=1e-6)

    mixture = GaussianMixture([[1.0, 0.0], [-1.0, 1.0]], 0.4)
    path, x = GaussianPath(CondOT()).marginal(mixture), mixture.sample(20, torch.Generator().manual_seed(0)).double()

    def trace(x, t, step=1e-5):
        shifts = step * torch.eye(2, dtype=DOUBLE)
        ends = [(path.vector_field(x + s, t) - path.vector_field(x - s, t))[:, i] for i, s in enumerate(shifts)]
        return sum(ends) / (2 * step)

    errors = []
    for steps in (20, 80):
        found = answer(path.vector_field, trace, x, torch.linspace(0, 1, steps + 1, dtype=DOUBLE))
        errors.append(float((found - mixture.log_prob(x)).abs().mean()))
    require(errors[1] < 0.15, "on the exact field of a mixture, the density of the mixture should come back")
    require(
        errors[1] < 0.4 * errors[0], "four times as many steps should bring the log density closer to the exact one"
    )


@check("the text above the exercise")
def linear_path(answer):
    for seed, (shape, t) in enumerate(
        [((3, 3), spread(3, DOUBLE)), ((4, 1, 4, 4), spread(4, DOUBLE)), ((1, 2), torch.tensor(0.9, dtype=DOUBLE))]
    ):
        x0, x1 = states(131 + seed, *shape, dtype=DOUBLE), states(141 + seed, *shape, dtype=DOUBLE)
        state, velocity = answer(x0, x1, t)
        require_close(state, x0 + column(t, x0) * (x1 - x0), "the state", tolerance=1e-6)
        require_close(velocity, x1 - x0, "the velocity", tolerance=1e-6)
    for t, end in ((0.0, x0), (1.0, x1)):
        require_close(answer(x0, x1, t)[0], end, f"the state at t = {t:g}", tolerance=1e-6)


@check("the text above the exercise (rectified flow)")
def reflow(answer):
    for seed, shape in enumerate([(6, 3), (5, 1, 4, 4)]):
        x0, calls = states(151 + seed, *shape, dtype=DOUBLE), []

        def sample(x, calls=calls):
            calls.append(len(x))
            return torch.sin(x) + 2 + 0.1 * torch.randn_like(x)

        torch.manual_seed(seed)
        loss = answer(sample, x0)
        if not callable(loss):
            fail("reflow should return a function loss(u, k, t)")
        torch.manual_seed(seed)
        x1 = torch.sin(x0) + 2 + 0.1 * torch.randn_like(x0)
        for k in (torch.tensor([4, 1, 0]), torch.tensor([2])):
            model, t = Model(0.9, DOUBLE), spread(len(k), DOUBLE)
            s = column(t, x0)
            found = called(loss, model, k, t)
            line = x0[k] + s * (x1[k] - x0[k])
            model.require_called_with(line, t)
            model.require_loss(found, model.value(line, t) - (x1[k] - x0[k]), tolerance=1e-6)
        require(calls == [len(x0)], "sample should be called once, with all of x0")
    x0, k, t = torch.zeros(4, 2), torch.arange(3), spread(3)
    first, second = answer(lambda x: x + 1, x0), answer(lambda x: x + 3, x0)
    for loss, shift in ((first, 1.0), (second, 3.0)):
        value = called(loss, lambda x, t: torch.zeros_like(x).requires_grad_(), k, t)
        expected = float(mean_square(torch.full((3, 2), shift)))
        require_number(value.detach(), expected, "the loss when two of them exist")
