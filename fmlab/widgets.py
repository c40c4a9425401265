"""Sliders: explorers that redraw a picture as a value moves.

An explorer is an ordinary ipywidget. Where no front end is attached (a saved or printed notebook) the same picture
stands in its place as a static image; without ipywidgets this is all there is, with a word on what is missing.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fmlab import extras, plots
from fmlab.datasets import Empirical
from fmlab.distributions import GaussianMixture
from fmlab.guidance import guided_vector_field
from fmlab.metrics import energy_distance
from fmlab.paths import GaussianPath
from fmlab.processes import ODE, ornstein_uhlenbeck
from fmlab.samplers import ddpm, sample_diffusion, sample_flow
from fmlab.schedules import VE, CondOT, Cosine, LinearVP
from fmlab.simulators import RK4, Euler, Heun, Midpoint, simulate

with extras.needed("drawing"):
    from matplotlib import rc_context
    from matplotlib.colors import PowerNorm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

try:
    from ipywidgets import HTML, Dropdown, FloatLogSlider, FloatSlider, IntSlider, SelectionSlider, VBox
except ModuleNotFoundError:
    from fmlab.stills import HTML, Dropdown, FloatLogSlider, FloatSlider, IntSlider, SelectionSlider, VBox  # noqa: F401

# What costs much of the time of a redraw: a layout engine, and looking for a place for the title.
STYLE: Any = plots.STYLE | {"figure.constrained_layout.use": False, "axes.titley": 1.0}
FAST = {"compress_level": 1}  # a little larger than at the usual 6, in half the time
VIEW = "application/vnd.jupyter.widget-view+json"
MISSING = 'A still picture: its sliders need ipywidgets, which is not installed (pip install "fmlab[labs]").'

# What a redrawn picture does: give each slider, and the number beside it, the name and the value that are to be seen.
# ipywidgets leaves them without a name, and with more digits than anybody wants to hear.
NAME = """
for (const row of this.closest('.widget-vbox').querySelectorAll('.widget-hslider')) {
  const label = row.querySelector('.widget-label').textContent, number = row.querySelector('.widget-readout');
  const handle = row.querySelector('.noUi-handle');
  handle.setAttribute('aria-label', label);
  handle.setAttribute('aria-valuetext', number.textContent);
  number.setAttribute('role', 'textbox');
  number.setAttribute('aria-label', label + ', a number');
}
"""


class Explorer(VBox):
    """Sliders above a picture that `draw(ax, **values)` redraws whenever a slider moves.

    draw: draws on clean axes from the sliders' values and returns a sentence that says what is to be seen, which
    becomes the picture's text alternative. panels: how many axes, side by side, draw is given. sliders: name → slider.

    Axes, ticks and the room around them stay from redraw to redraw: to make them anew takes longer than all the rest.
    """

    def __init__(self, draw: Callable[..., str], panels: int = 1, **sliders):
        self._draw, self._sliders, self._picture = draw, sliders, HTML()
        with rc_context(STYLE):
            self._figure, self._canvas = plots.unshown(figsize=(7, 3.6), dpi=90, **plots.FRAME)
            self._figure.subplots_adjust(left=0.12, right=0.98, bottom=0.15, top=0.9)
            self._axes = self._figure.subplots(1, panels, squeeze=False)[0]
        self._bare = {child for ax in self._axes for child in ax.get_children()}
        super().__init__([*sliders.values(), self._picture])
        for slider in sliders.values():
            slider.style.description_width = "10em"
            slider.layout.width = "min(36em, 95%)"
            slider.observe(self._redraw, "value")
        self._redraw()

    def _redraw(self, change=None) -> None:
        with rc_context(STYLE):
            for ax in self._axes:
                self._wipe(ax)
            self._words = self._draw(*self._axes, **{name: slider.value for name, slider in self._sliders.items()})
            self._canvas.draw()
        self._png = plots.encoded(np.asarray(self._canvas.buffer_rgba()), "png", **FAST)
        self._picture.value = plots.image(self._png, self._words, f' onload="{NAME}"')

    def _wipe(self, ax: Axes) -> None:
        """Take off all that `draw` drew."""
        for artist in ax.get_children():
            if artist not in self._bare:
                artist.remove()
        ax.relim()

    _ipython_display_ = None  # by which ipywidgets 7 would show the widget alone

    def _repr_mimebundle_(self, **kwargs):
        still = plots.Picture(self._png, self._words)._repr_mimebundle_()
        if not hasattr(self, "model_id"):
            return still | {"text/html": f"<p>{html.escape(MISSING)}</p>{still['text/html']}"}
        return still | {VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.model_id}}


def step_size(theta: float = 4.0, x0: float = 1.0) -> Explorer:
    """A method's states for u_t(x) = −θx and the exact flow e^{−θt} x_0, as method and number of steps change."""
    fine = torch.linspace(0, 1, 201)
    methods = {"Euler": Euler(), "Heun": Heun(), "midpoint": Midpoint(), "RK4": RK4()}

    def draw(ax: Axes, steps: int, theta: float, method: str) -> str:
        ts, h = torch.linspace(0, 1, steps + 1), 1 / steps
        decay = ODE(lambda x, t: -theta * x)
        states = simulate(decay, torch.tensor([x0]), ts, methods[method], record=True)[:, 0]
        error = float((states - x0 * torch.exp(-theta * ts)).abs().max())
        ax.plot(fine, x0 * torch.exp(-theta * fine), color=plots.BLACK, ls="-", label="exact flow")
        ax.plot(ts, states, color=plots.RED, ls="--", marker="o", ms=4, label=f"{method}, h = {h:.3g}")
        ax.set(xlabel="time t", ylabel="state", title=f"θh = {theta * h:.3g}, largest error {error:.3g}")
        ax.legend(loc="upper right")
        course = "jumps over 0 at every step" if states[1] * x0 < 0 else "decays as the exact flow does"
        return f"{method} with {steps} steps for theta = {theta:g} {course}: largest error {error:.3g}"

    return Explorer(
        draw,
        steps=IntSlider(5, 1, 60, description="steps"),
        theta=FloatSlider(value=theta, min=0.5, max=12, step=0.5, description="rate θ"),
        method=Dropdown(options=list(methods), description="method"),
    )


def ornstein_uhlenbeck_paths(x0: float = 5.0, n: int = 12, t_end: float = 20.0) -> Explorer:
    """Paths of the Ornstein–Uhlenbeck process with mean ± 2 standard deviations, as θ and σ change.

    The paths are exact at the times drawn: over each interval the process is Gaussian with known moments.
    """
    ts = torch.linspace(0, t_end, 201)
    noise = torch.randn(len(ts) - 1, n, generator=torch.Generator().manual_seed(0))

    def draw(ax: Axes, theta: float, sigma: float) -> str:
        process = ornstein_uhlenbeck(theta, sigma)
        states = [torch.linspace(-x0, x0, n)]
        for h, epsilon in zip(ts.diff(), noise):
            mean, variance = process.moments(states[-1], h)
            states.append(mean + variance.sqrt() * epsilon)
        mean, variance = process.moments(torch.tensor(x0), ts)
        plots.plot_paths(ts, torch.stack(states), ax, color=plots.BLUE, ls="-", alpha=0.5)
        plots.plot_band(ts, mean, variance.sqrt(), ax, label=f"mean from {x0:g}")
        ax.set(ylim=(-2.4 * x0, 2.4 * x0), title=f"stationary variance σ²/(2θ) = {sigma**2 / (2 * theta):.3g}")
        ax.legend(loc="upper right")
        return f"Ornstein–Uhlenbeck paths for theta = {theta:.3g} and sigma = {sigma:.3g}"

    return Explorer(
        draw,
        theta=FloatLogSlider(value=0.25, base=2, min=-3, max=3, step=0.25, description="pull θ"),
        sigma=FloatSlider(value=1.0, min=0, max=2, step=0.1, description="noise σ"),
    )


def noise_schedules() -> Explorer:
    """A schedule in the plane of α and β, its state at time t, and the ray to its variance-preserving twin.

    Along a ray from the origin λ is constant; the twin is where the ray meets the unit circle.
    """
    schedules = {"CondOT": CondOT(), "cosine": Cosine(), "linear VP": LinearVP(), "VE, 2": VE(2.0), "VE, 20": VE(20.0)}
    fine, quarter = torch.linspace(0, 1, 201), torch.linspace(0, torch.pi / 2, 101)

    def draw(ax: Axes, schedule: str, t: float) -> str:
        chosen = schedules[schedule]
        alpha, beta, log_snr = (float(value(t)) for value in (chosen.alpha, chosen.beta, chosen.log_snr))
        length = (alpha**2 + beta**2) ** 0.5
        ax.plot(quarter.cos(), quarter.sin(), color=plots.BLACK, ls=":", lw=1, label="variance preserving")
        ax.plot(chosen.alpha(fine), chosen.beta(fine), color=plots.BLUE, ls="-", lw=2, label=schedule)
        ax.plot([0, 4 * alpha / length], [0, 4 * beta / length], color=plots.SKY, ls="--", lw=1, label="equal λ")
        ax.plot(alpha, beta, "o", color=plots.BLUE, ms=8)
        ax.plot(alpha / length, beta / length, "^", color=plots.RED, ms=8, label="rescaled")
        ax.set(xlim=(-0.05, 2.6), ylim=(-0.05, 1.4), aspect="equal", xlabel="weight of the data α")
        ax.set(ylabel="weight of the noise β", title=f"t = {t:.2f}: α = {alpha:.3g}, β = {beta:.3g}, λ = {log_snr:.2f}")
        ax.legend(loc="upper right")
        return f"{schedule} at t = {t:.2f}: alpha {alpha:.3g}, beta {beta:.3g}, log signal-to-noise ratio {log_snr:.2f}"

    return Explorer(
        draw,
        schedule=Dropdown(options=list(schedules), description="schedule"),
        t=FloatSlider(value=0.3, min=0.01, max=0.99, step=0.01, description="time t"),
    )


def sampler_churn(n: int = 1000) -> Explorer:
    """DDPM from n points of noise, with the exact denoiser of a mixture on a line, as steps and churn change."""
    mixture, schedule = GaussianMixture([[-1.5], [1.0]], [0.04, 0.09], [0.4, 0.6]), CondOT()
    denoiser = GaussianPath(schedule).marginal(mixture).posterior_mean
    x0, grid = torch.randn(n, 1, generator=torch.Generator().manual_seed(0)), torch.linspace(-3, 3, 300)
    density, bins = mixture.log_prob(grid[:, None]).exp(), torch.linspace(-3, 3, 61).tolist()

    def draw(ax: Axes, steps: int, churn: float) -> str:
        generator = torch.Generator().manual_seed(1)
        ends = ddpm(denoiser, x0, schedule, steps, output="data", churn=churn, generator=generator)
        share = float((ends < -0.25).float().mean())
        ax.hist(plots.array(ends[:, 0]), bins=bins, density=True, histtype="stepfilled", color=plots.SKY)
        ax.plot(grid, density, color=plots.BLACK, ls="-", lw=1.5, label="exact density")
        ax.set(xlim=(-3, 3), ylim=(0, 1.6), xlabel="$x$", ylabel="density")
        ax.set(title=f"{steps} steps, churn {churn:g}: {share:.0%} of the samples in the left bump (exact: 40%)")
        ax.legend(loc="upper left")
        return f"{n} samples with {steps} steps and churn {churn:g}: {share:.0%} in the left bump, where 40% belong"

    return Explorer(
        draw,
        steps=IntSlider(6, 1, 16, description="steps"),
        churn=FloatSlider(value=0.0, min=0, max=3, step=0.1, description="churn c"),
    )


def guidance_scale(classes: Sequence[GaussianMixture], n: int = 300) -> Explorer:
    """Points guided to one of several labelled mixtures in the plane by exact fields, as the guidance scale w moves.

    classes: p(x | y) for y = 0, 1, …, all as likely.
    """
    everything = GaussianMixture(
        torch.cat([p.means for p in classes]),
        torch.cat([p.covs for p in classes]),
        torch.cat([p.weights for p in classes]),
    )
    path, generator = GaussianPath(), torch.Generator().manual_seed(0)
    fields = [path.marginal(p).vector_field for p in (*classes, everything)]
    x0 = torch.randn(n, 2, generator=generator)
    data = [p.sample(n // 2, generator) for p in classes]

    def draw(ax: Axes, w: float, y: int) -> str:
        field = guided_vector_field(lambda x, t, label: fields[label](x, t), y, w, null=len(classes))
        ends = sample_flow(field, x0, steps=10)
        share = float((classes[y].log_prob(ends) - everything.log_prob(ends)).exp().mean() / len(classes))
        for label, z in enumerate(data):
            mark, color = plots.MARKERS[label], (plots.BLUE, plots.ORANGE, plots.GREEN, plots.SKY)[label % 4]
            plots.plot_samples(z, ax, marker=mark, ms=3.5, alpha=0.35, color=color, label=f"data with y = {label}")
        plots.plot_samples(ends, ax, color=plots.BLACK, ms=4, alpha=0.8, label=f"guided to y = {y}")
        spread = float(ends.std(0).norm())
        ax.set(xlim=(-7, 4), ylim=(-3, 3), title=f"w = {w:g}: mean p(y given x) {share:.2f}, spread {spread:.2f}")
        ax.set(xlabel="x₁", ylabel="x₂")  # plain letters, which are drawn much faster than formulas
        ax.legend(loc="center left")
        return f"guided to label {y} with w = {w:g}: the mean of p(y given x) over the samples is {share:.2f}"

    return Explorer(
        draw,
        w=FloatSlider(value=1.0, min=0, max=6, step=0.25, description="guidance scale w"),
        y=IntSlider(0, 0, len(classes) - 1, description="label y"),
    )


def path_through_time() -> Explorer:
    """The conditional path of one data point and the marginal path of all of them, with their fields, as t moves."""
    z = torch.tensor([[1.6, 1.2], [-1.8, 0.9], [-0.6, -1.8], [1.3, -1.2], [-0.2, 1.9]])
    path = GaussianPath(CondOT())
    one, every = [path.marginal(Empirical(point[None])) for point in z], path.marginal(Empirical(z))
    pixels = plots.lattice(3.0, 60)

    def draw(left: Axes, right: Axes, t: float, point: int) -> str:
        for ax, law, data in ((left, one[point - 1], z[point - 1 : point]), (right, every, z)):
            density = plots.array(law.log_prob(pixels, t).exp()).reshape(60, 60).T
            ax.imshow(density, cmap="Greys", vmax=1.3 * density.max(), origin="lower", extent=(-3, 3, -3, 3))
            ax.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2))
            plots.plot_vector_field(law.vector_field, t, ax, n=11)
            ax.plot(*plots.array(data).T, "X", ls="", color=plots.RED, ms=8)
        left.set_title(f"conditional on point {point}")
        right.set_title("marginal")
        return f"Densities and fields at t = {t:.2f}: the path of data point {point}, and of all {len(z)} data points"

    return Explorer(
        draw,
        panels=2,
        t=FloatSlider(value=0.5, min=0, max=0.9, step=0.02, description="time t"),
        point=IntSlider(1, 1, len(z), description="data point z"),
    )


def sde_extension_noise(n: int = 2000, steps: int = 100) -> Explorer:
    """Trajectories of the extended SDE on a line, with its quantiles and those of the exact path, as σ changes.

    Field and score are looked up in a table over time and place, which makes a redraw fast.
    """
    path = GaussianPath(CondOT()).marginal(GaussianMixture([[-1.0], [1.2]], [0.05, 0.15], weights=[0.4, 0.6]))
    ts, grid = torch.linspace(0, 1, steps + 1), torch.linspace(-5, 5, 301)
    t, x = torch.cartesian_prod(ts, grid).T
    tables = [f(x[:, None], t).reshape(steps + 1, -1).numpy() for f in (path.vector_field, path.score, path.log_prob)]
    fields, scores, densities = tables[0], tables[1], np.exp(tables[2])
    levels, shares = (0.1, 0.5, 0.9), densities.cumsum(1) / densities.sum(1, keepdims=True)
    exact = np.array([np.interp(levels, row, grid) for row in shares])
    rng = np.random.default_rng(0)
    start, noise = rng.normal(size=n), rng.normal(size=(steps, n))

    def draw(ax: Axes, sigma: float) -> str:
        states = np.empty((steps + 1, n))
        states[0] = start
        for k in range(steps):
            drift = np.interp(states[k], grid, fields[k] + sigma**2 / 2 * scores[k])
            states[k + 1] = states[k] + drift / steps + sigma / steps**0.5 * noise[k]
        found = np.quantile(states[::5], levels, axis=1).T
        shades: Any = {"cmap": "Greys", "norm": PowerNorm(0.6, 0, 1.2), "aspect": "auto"}
        ax.imshow(densities.T, origin="lower", extent=(0, 1, -5, 5), **shades)
        ax.plot(ts, states[:, :12], color=plots.BLUE, ls="-", lw=0.7, alpha=0.7)
        ax.plot(ts, exact, color=plots.BLACK, ls="-", lw=1.4)
        ax.plot(ts[::5], found, color=plots.RED, ls="--", lw=1.8)
        largest = np.abs(found - exact[::5]).max()
        ax.set(xlabel="time $t$", ylabel="state $X_t$", ylim=(-3, 3), yticks=(-2, 0, 2))
        ax.set_title(f"σ = {sigma:.1f}: quantiles off by {largest:.2f} at most")
        return f"Trajectories of the extended SDE for sigma = {sigma:.1f}; quantiles off by {largest:.2f} at most"

    return Explorer(draw, sigma=FloatSlider(value=1.0, min=0, max=4, step=0.1, description="noise σ"))


def diffusion_sigma(n: int = 600) -> Explorer:
    """Samples of a mixture in the plane by the extended SDE with σ_t = c β_t, as c and the number of steps change.

    Field and score are exact. The histogram shows the first coordinate; the energy distance to fresh data sees both.
    """
    means, variances = torch.tensor([[-1.4, -0.7], [1.3, -1.0], [0.2, 1.3]]), torch.tensor([0.08, 0.06, 0.1])
    mixture, schedule = GaussianMixture(means, variances, [0.3, 0.3, 0.4]), CondOT()
    field = GaussianPath(schedule).marginal(mixture).vector_field
    first = GaussianMixture(means[:, :1], variances, mixture.weights)
    generator = torch.Generator().manual_seed(0)
    start, fresh = torch.randn(n, 2, generator=generator), mixture.sample(n, generator)
    grid, bins = torch.linspace(-3, 3, 301), torch.linspace(-3, 3, 41)
    density = first.log_prob(grid[:, None]).exp()

    def draw(ax: Axes, c: float, steps: int) -> str:
        noise = torch.Generator().manual_seed(1)  # the same for every c
        x = sample_diffusion(
            field, None, start, lambda t: c * schedule.beta(t), steps, schedule=schedule, generator=noise
        )
        distance = float(energy_distance(x, fresh))
        heights = torch.histogram(x[:, 0], bins).hist / (n * (bins[1] - bins[0]))
        ax.stairs(heights, bins, fill=True, color=plots.SKY, label="samples")
        ax.plot(grid, density, color=plots.BLACK, ls="-", label="exact density")
        ax.set(xlim=(-3, 3), ylim=(0, 1), xlabel="first coordinate of the samples", ylabel="density")
        ax.set_title(f"c = {c:g}, {steps} steps: energy distance {distance:.3f}")
        ax.legend(loc="upper left")
        return f"samples for sigma = {c:g} beta in {steps} steps: energy distance {distance:.3f}"

    return Explorer(
        draw,
        c=FloatSlider(value=0.0, min=0, max=6, step=0.5, description="noise c"),
        steps=IntSlider(5, 3, 30, description="steps"),
    )


def noise_to_data(z: Tensor, marked: int = 5) -> Explorer:
    """The points x_t = (1 − t)ε + t z of noise on straight lines to the data z: (n, 2), as t moves; some are marked."""
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))

    def draw(ax: Axes, t: float) -> str:
        x = (1 - t) * noise + t * z
        ax.plot(*plots.array(x).T, ".", color=plots.BLUE, ms=2, alpha=0.5)
        lines = plots.array(torch.stack([noise[:marked], z[:marked]]))
        ax.plot(lines[..., 0], lines[..., 1], color=plots.BLACK, ls=":", lw=1)
        ax.plot(*plots.array(x[:marked]).T, "o", color=plots.RED, ms=6)
        ax.set(xlim=(-4.9, 4.9), ylim=(-2.2, 2.2), xticks=(), yticks=())
        ax.set(xlabel="$x_1$", ylabel="$x_2$", title=f"t = {t:.2f}")
        return f"{len(z)} points at t = {t:.2f}, on straight lines from noise at t = 0 to their data at t = 1"

    return Explorer(draw, t=FloatSlider(value=0.9, min=0, max=1, step=0.01, description="time t"))
