"""Sliders: explorers that redraw a picture as a value moves.

An explorer is an ordinary ipywidget. Where no front end is attached (a saved or printed notebook) the same picture
stands in its place as a static image.
"""

import base64
import io
from collections.abc import Callable

import torch
from ipywidgets import HTML, Dropdown, FloatLogSlider, FloatSlider, IntSlider, VBox
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fmlab import plots
from fmlab.distributions import GaussianMixture
from fmlab.paths import GaussianPath
from fmlab.processes import ODE, ornstein_uhlenbeck
from fmlab.samplers import ddpm
from fmlab.schedules import VE, CondOT, Cosine, LinearVP
from fmlab.simulators import Euler, simulate

STYLE = plots.STYLE | {"figure.constrained_layout.use": False}  # a layout engine doubles the time of a redraw


class Explorer(VBox):
    """Sliders above a picture that `draw(ax, **values)` redraws whenever a slider moves.

    draw: draws on clean axes from the sliders' values and returns a sentence that says what is to be seen, which
    becomes the picture's text alternative. sliders: name → slider.
    """

    def __init__(self, draw: Callable[..., str], **sliders):
        self._draw, self._sliders, self._picture = draw, sliders, HTML()
        with rc_context(STYLE):
            self._figure = Figure(figsize=(7, 3.6))
            self._figure.subplots_adjust(left=0.12, right=0.98, bottom=0.15, top=0.9)
            self._ax = self._figure.subplots()
        super().__init__([*sliders.values(), self._picture])
        for slider in sliders.values():
            slider.style.description_width = "10em"
            slider.layout.width = "min(36em, 95%)"
            slider.observe(self._redraw, "value")
        self._redraw()

    def _redraw(self, change=None) -> None:
        with rc_context(STYLE):
            self._ax.clear()
            words = self._draw(self._ax, **{name: slider.value for name, slider in self._sliders.items()})
            buffer = io.BytesIO()
            self._figure.savefig(buffer, format="png", dpi=90)
        self._png = base64.b64encode(buffer.getvalue()).decode()
        self._picture.value = f'<img alt="{words}" src="data:image/png;base64,{self._png}" style="max-width:100%">'

    def _repr_mimebundle_(self, **kwargs):
        return super()._repr_mimebundle_(**kwargs) | {"image/png": self._png}


def euler_step_size(theta: float = 4.0, x0: float = 1.0) -> Explorer:
    """Euler's method on u_t(x) = −θx against the exact flow e^{−θt} x_0, as the number of steps changes."""
    fine = torch.linspace(0, 1, 201)

    def draw(ax: Axes, steps: int, theta: float) -> str:
        ts = torch.linspace(0, 1, steps + 1)
        states = simulate(ODE(lambda x, t: -theta * x), torch.tensor([x0]), ts, Euler(), record=True)[:, 0]
        error = float((states - x0 * torch.exp(-theta * ts)).abs().max())
        ax.plot(fine, x0 * torch.exp(-theta * fine), color=plots.BLACK, ls="-", label="exact flow")
        ax.plot(ts, states, color=plots.RED, ls="--", marker="o", ms=4, label=f"Euler, $h$ = {1 / steps:.3g}")
        ax.set(xlabel="time $t$", ylabel="state $X_t$", title=f"largest error {error:.3g}")
        ax.legend()
        return f"Euler's method with {steps} steps for theta = {theta:g}: largest error {error:.3g}"

    return Explorer(
        draw,
        steps=IntSlider(5, 1, 60, description="Euler steps"),
        theta=FloatSlider(value=theta, min=0.5, max=12, step=0.5, description="rate θ"),
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
        ax.plot([0, 3 * alpha / length], [0, 3 * beta / length], color=plots.SKY, ls="--", lw=1, label="equal λ")
        ax.plot(alpha, beta, "o", color=plots.BLUE, ms=8)
        ax.plot(alpha / length, beta / length, "^", color=plots.RED, ms=8, label="rescaled")
        ax.set(xlim=(-0.05, 1.8), ylim=(-0.05, 1.4), aspect="equal", xlabel="weight of the data α")
        ax.set(ylabel="weight of the noise β", title=f"t = {t:.2f}: α = {alpha:.3g}, β = {beta:.3g}, λ = {log_snr:.2f}")
        ax.legend(loc="upper right", frameon=True)
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
        steps=IntSlider(6, 1, 24, description="steps"),
        churn=FloatSlider(value=0.0, min=0, max=3, step=0.1, description="churn c"),
    )
