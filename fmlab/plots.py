"""Pictures: each function draws one idea on `ax` (a new figure if None) and returns the axes.

Any tensor is accepted: on any device, of any dtype, with or without gradients. Colours are those of Okabe and Ito,
which colour-blind readers tell apart; line styles and markers differ too, so that figures read in greyscale.
"""

import math
from collections.abc import Callable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from matplotlib.axes import Axes
from torch import Tensor

BLACK, BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#000000 #0072B2 #E69F00 #009E73 #D55E00 #56B4E9 #CC79A7".split()
STYLE = {
    "axes.prop_cycle": cycler(color=[BLUE, RED, BLACK, SKY, GREEN, PURPLE, ORANGE])
    + cycler(linestyle=["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-"]),
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 90,
    "grid.alpha": 0.3,
    "image.cmap": "cividis",
    "legend.frameon": False,
}
MARKERS = "osD^v*P"


def use_style() -> None:
    """Give all later figures of this session the look of the course."""
    plt.rcParams.update(STYLE)


def plot_paths(ts, states, ax: Axes | None = None, label: str | None = None, **line) -> Axes:
    """One-dimensional paths t ↦ X_t. ts: (T,); states: (T, n) or (T, n, 1)."""
    ax, ts, states = _axes(ax), array(ts), array(states)
    states = states.reshape(len(ts), -1)
    line = {"lw": 1.0, "alpha": 0.8} | line
    ax.plot(ts, states[:, 1:], **line)
    ax.plot(ts, states[:, :1], label=label, **line)
    ax.set(xlabel="time $t$", ylabel="state $X_t$")
    return ax


def plot_band(ts, mean, std, ax: Axes | None = None, label: str | None = None, color: str = BLACK) -> Axes:
    """Mean and the band mean ± 2 std over time: two dashed lines about a solid one. ts, mean, std: (T,).

    label: of the mean; with one, the dashed lines are labelled too.
    """
    ax, ts, mean, std = _axes(ax), array(ts), array(mean), array(std)
    ax.plot(ts, mean, color=color, ls="-", lw=1.6, label=label)
    ax.plot(ts, mean - 2 * std, color=color, ls="--", lw=1.2)
    ax.plot(ts, mean + 2 * std, color=color, ls="--", lw=1.2, label=label and "± 2 std")
    return ax


def plot_trajectories(states, ax: Axes | None = None, **line) -> Axes:
    """Paths in the plane with their ends marked. states: (T, n, 2)."""
    ax, states = _axes(ax), array(states)
    line = {"color": BLUE, "ls": "-", "lw": 0.8, "alpha": 0.6} | line
    ax.plot(states[:, :, 0], states[:, :, 1], **line)
    ax.plot(*states[0].T, "o", ms=3, color=BLACK, label="start")
    ax.plot(*states[-1].T, "^", ms=4, color=RED, label="end")
    return _plane(ax)


def plot_samples(x, ax: Axes | None = None, **marks) -> Axes:
    """Points in the plane. x: (n, 2)."""
    ax, x = _axes(ax), array(x)
    ax.plot(*x.T, **({"ls": "", "marker": ".", "ms": 2, "alpha": 0.5, "color": BLUE} | marks))
    return _plane(ax)


def plot_vector_field(u: Callable, t: float, ax: Axes | None = None, extent: float = 3.0, n: int = 15) -> Axes:
    """Arrows of u(x, t) at time t on an n × n lattice over [−extent, extent]²."""
    ax, x = _axes(ax), lattice(extent, n)
    ax.quiver(*array(x).T, *array(u(x, torch.tensor(float(t)))).T, color=BLUE, angles="xy", width=0.004)
    return _plane(ax, extent)


def plot_warped_grid(flow: Callable, ax: Axes | None = None, extent: float = 2.0, lines: int = 13) -> Axes:
    """A square grid over [−extent, extent]² after the map `flow`: (n, 2) → (n, 2).    [notes, fig. 1]"""
    ax, fine = _axes(ax), torch.linspace(-extent, extent, 101)
    for level in torch.linspace(-extent, extent, lines):
        fixed = level.expand_as(fine)
        for line in (torch.stack([fine, fixed], 1), torch.stack([fixed, fine], 1)):
            ax.plot(*array(flow(line)).T, color=RED, ls="-", lw=0.8)
    return _plane(ax)


def plot_density(log_prob: Callable, ax: Axes | None = None, extent: float = 3.0, n: int = 120) -> Axes:
    """Density exp(log_prob(x)) in the plane, dark where it is high, with contour lines. log_prob: (n, 2) → (n,)."""
    ax, x = _axes(ax), lattice(extent, n)
    density = np.exp(array(log_prob(x))).reshape(n, n).T
    side = np.linspace(-extent, extent, n)
    ax.pcolormesh(side, side, density, cmap="Greys", shading="gouraud", vmax=1.4 * density.max(), rasterized=True)
    ax.contour(side, side, density, levels=5, colors=BLACK, linewidths=0.5)
    return _plane(ax, extent)


def plot_signed(
    f: Callable, ax: Axes | None = None, extent: float = 3.0, n: int = 100, limit: float | None = None
) -> Axes:
    """Values of either sign in the plane: orange and solid lines above 0, purple and dashed ones below it.

    f: (n, 2) → (n,). limit: the absolute value at which colours are strongest; the largest one found if not given.
    """
    ax, side = _axes(ax), np.linspace(-extent, extent, n)
    values = array(f(lattice(extent, n))).reshape(n, n).T
    limit = limit or np.abs(values).max() or 1.0
    steps = plt.get_cmap("PuOr_r", 41)  # few colours, so that a picture of 256 has all of them
    mesh = ax.pcolormesh(side, side, values, cmap=steps, vmin=-limit, vmax=limit, shading="nearest", rasterized=True)
    levels = limit * np.array([-0.8, -0.4, -0.1, 0.1, 0.4, 0.8])
    ax.contour(side, side, values, levels=levels, colors=BLACK, linewidths=0.5, negative_linestyles="dashed")
    ax.figure.colorbar(mesh, ax=ax, shrink=0.8)
    return _plane(ax, extent)


def plot_density_in_time(log_prob: Callable, ax: Axes | None = None, extent: float = 3.0, n: int = 120) -> Axes:
    """Density exp(log_prob(x, t)) of a path on the line, over the times from 0 to 1. log_prob: (n, 1), (n,) → (n,).

    Shades follow the root of the density, so that the wide start and a narrow end can both be seen.
    """
    ax, ts, xs = _axes(ax), torch.linspace(0, 1, n), torch.linspace(-extent, extent, n)
    t, x = torch.cartesian_prod(ts, xs).T
    shade = np.exp(array(log_prob(x[:, None], t)) / 2).reshape(n, n).T
    ax.pcolormesh(array(ts), array(xs), shade, cmap="Greys", vmax=1.4 * shade.max(), shading="gouraud", rasterized=True)
    ax.set(xlabel="time $t$", ylabel="state $X_t$", ylim=(-extent, extent))
    return ax


def plot_histogram(x, ax: Axes | None = None, density: Callable | None = None, bins: int = 60, **bars) -> Axes:
    """Histogram of numbers, and the exact density over it where given. x: any shape; density: (n,) → (n,)."""
    ax, x = _axes(ax), array(x).reshape(-1)
    ax.hist(x, bins=bins, density=True, **({"color": SKY, "label": "samples"} | bars))
    if density is not None:
        grid = torch.linspace(float(x.min()), float(x.max()), 300)
        ax.plot(array(grid), array(density(grid)), color=BLACK, ls="-", lw=1.5, label="exact density")
    ax.set(xlabel="$x$", ylabel="density")
    return ax


def plot_images(
    x, ax: Axes | None = None, columns: int = 10, low: float = -1.0, high: float = 1.0, smooth: int = 1
) -> Axes:
    """Grey images row by row, `columns` to a row; black is low, white is high. x: (n, height, width) or (n, 1, …).

    smooth: how many times each pixel is enlarged, with smooth transitions: the eye reads small images better so.
    """
    ax, x = _axes(ax), torch.as_tensor(array(x))
    x = x.reshape(len(x), 1, *x.shape[-2:])
    if smooth > 1:
        x = torch.nn.functional.interpolate(x, scale_factor=smooth, mode="bicubic")
    rows, height, width = -(-len(x) // columns), x.shape[2] + smooth, x.shape[3] + smooth
    sheet = np.full((rows * height - smooth, columns * width - smooth), np.nan)  # nothing is drawn between images
    for k, image in enumerate(x[:, 0]):
        top, left = k // columns * height, k % columns * width
        sheet[top : top + height - smooth, left : left + width - smooth] = image
    ax.imshow(sheet, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    ax.set_axis_off()
    return ax


def plot_convergence(
    hs, errors: Mapping[str, Tensor], orders: Mapping[str, float] | None = None, ax: Axes | None = None
) -> Axes:
    """Errors against step sizes on logarithmic axes, each with a reference line of slope `orders[label]`.

    hs: (m,); errors: label → (m,). The reference lines pass through the smallest step's error.
    """
    ax, hs = _axes(ax), array(hs)
    for k, (label, values) in enumerate(errors.items()):
        values = array(values)
        (line,) = ax.loglog(hs, values, marker=MARKERS[k], label=label)
        if orders and label in orders:
            smallest = hs.argmin()
            reference = values[smallest] * (hs / hs[smallest]) ** orders[label]
            ax.loglog(hs, reference, color=line.get_color(), ls="-", lw=3, alpha=0.25, label=f"slope {orders[label]:g}")
    ax.set(xlabel="step size $h$", ylabel="error")
    ax.legend()
    return ax


def lattice(extent: float, n: int) -> Tensor:
    """The n² points of a square lattice over [−extent, extent]², (n², 2)."""
    side = torch.linspace(-extent, extent, n)
    return torch.cartesian_prod(side, side)


def array(x) -> np.ndarray:
    """Any tensor or sequence as a NumPy array."""
    return torch.as_tensor(x).detach().cpu().double().numpy()


def figure(columns: int = 1, rows: int = 1, width: float = 3.6, height: float = 3.2):
    """A figure with a row (or rows) of panels of equal size. Returns (figure, axes) with axes a flat list."""
    fig, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    return fig, list(axes.flat)


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots()[1] if ax is None else ax


def _plane(ax: Axes, extent: float = math.nan) -> Axes:
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    if not math.isnan(extent):
        ax.set(xlim=(-extent, extent), ylim=(-extent, extent))
    return ax
