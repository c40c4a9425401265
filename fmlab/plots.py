"""Pictures: each function draws one idea on `ax` (a new figure if None) and returns the axes.

Any tensor is accepted: on any device, of any dtype, with or without gradients. Colours are those of Okabe and Ito,
which colour-blind readers tell apart; line styles and markers differ too, so that figures read in greyscale.
`describe` shows a figure with its text alternative, and `animate_*` make pictures that move.

Most of matplotlib is imported by the first figure: it would make up a third of the time of a lab's first cell.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fmlab import extras

with extras.needed("drawing"):
    import matplotlib
    from cycler import cycler

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

BLACK, BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#000000 #0072B2 #E69F00 #009E73 #D55E00 #56B4E9 #CC79A7".split()
STYLE: Any = {
    "axes.prop_cycle": cycler(color=[BLUE, RED, BLACK, SKY, ORANGE, GREEN, PURPLE])
    + cycler(linestyle=["-", "--", "-.", ":", "-", (0, (8, 2, 1, 2, 1, 2)), (0, (12, 3))]),
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 90,
    "grid.alpha": 0.3,
    "image.cmap": "cividis",
    "legend.frameon": False,
    "savefig.pad_inches": 0.15,
}
MARKERS = "osD^v*P"
FRAME: Any = {"linewidth": 1, "edgecolor": "#b0b0b0"}  # a white card on a dark page, and on a white one


def use_style() -> None:
    """Give all later figures of this session the look of the course."""
    matplotlib.rcParams.update(STYLE)


def plot_paths(ts, states, ax: Axes | None = None, label: str | None = None, **line) -> Axes:
    """One-dimensional paths t ↦ X_t. ts: (T,); states: (T, n) or (T, n, 1)."""
    ax, ts, states = _axes(ax), array(ts), array(states)
    states = states.reshape(len(ts), -1)
    options: Any = {"lw": 1.0, "alpha": 0.8} | line
    ax.plot(ts, states[:, 1:], **options)
    ax.plot(ts, states[:, :1], label=label, **options)
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
    options: Any = {"color": BLUE, "ls": "-", "lw": 0.8, "alpha": 0.6} | line
    ax.plot(states[:, :, 0], states[:, :, 1], **options)
    ax.plot(*states[0].T, "o", ms=3, color=BLACK, label="start")
    ax.plot(*states[-1].T, "^", ms=4, color=RED, label="end")
    return _plane(ax)


def plot_samples(x, ax: Axes | None = None, **marks) -> Axes:
    """Points in the plane. x: (n, 2)."""
    ax, x = _axes(ax), array(x)
    options: Any = {"ls": "", "marker": ".", "ms": 2, "alpha": 0.5, "color": BLUE} | marks
    ax.plot(*x.T, **options)
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
    steps = matplotlib.colormaps["PuOr_r"].resampled(41)  # few colours, so that a picture of 256 has all of them
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


def plot_marginals(
    ts, states, ax: Axes | None = None, density: Callable | None = None, bins: int | Sequence[float] = 40
) -> Axes:
    """Histograms of X_t on their sides, one to the right of each time, and exact densities over them where given.

    ts: (T,), evenly spaced; states: (T, n) or (T, n, 1); density: (m,), t → (m,); bins: their number, or their edges.
    All have one scale, in which the highest reaches nearly to the next time.
    """
    ax, ts, states = _axes(ax), array(ts), array(states)
    states = states.reshape(len(ts), -1)
    edges = np.histogram_bin_edges(states, bins)
    grid = np.linspace(edges[0], edges[-1], 301)
    heights = [np.histogram(x, edges)[0] / len(x) / np.diff(edges) for x in states]
    curves = [array(density(torch.tensor(grid).float(), torch.tensor(t).float())) for t in ts] if density else []
    scale = 0.9 * np.diff(ts).min(initial=1.0) / max(map(np.max, heights + curves))
    for t, height in zip(ts, heights):
        label = "samples" if t == ts[0] else None
        ax.stairs(t + scale * height, edges, baseline=t, orientation="horizontal", fill=True, color=SKY, label=label)
    for t, curve in zip(ts, curves):
        label = "exact density" if t == ts[0] else None
        ax.plot(t + scale * curve, grid, color=BLACK, ls="-", lw=1.2, label=label)
    ax.set(xlabel="time $t$", ylabel="state $X_t$")
    return ax


def plot_counts(x, ax: Axes | None = None, extent: float = 3.0, bins: int = 75) -> Axes:
    """How many points fall into each small square of [−extent, extent]²: the darker, the more. x: (n, 2)."""
    ax, (first, second) = _plane(_axes(ax), extent), array(x).T
    ax.hist2d(first, second, bins=bins, range=[[-extent, extent]] * 2, cmap="Greys")
    return ax


def plot_history(history, ax: Axes | None = None, window: int = 50, **line) -> Axes:
    """The loss while training, each point the mean of `window` steps. history: (steps,), such as `model.history`.

    Raises ValueError where there are fewer steps than that.
    """
    ax, losses = _axes(ax), torch.as_tensor(array(history))
    if len(losses) < window:
        raise ValueError(f"a history of {len(losses)} steps has no mean of {window}; give a smaller window")
    means = losses.unfold(0, window, max(window // 5, 1)).mean(dim=1)
    ax.plot(window + max(window // 5, 1) * np.arange(len(means)), means, **line)
    ax.set(xlabel="training step", ylabel=f"loss (mean of {window} steps)")
    return ax


def plot_distances(
    evaluations, distances: Mapping[str, Tensor], floor: float | None = None, ax: Axes | None = None
) -> Axes:
    """Distances of samples to data against evaluations of the field, on logarithmic axes.

    evaluations: (m,), or name → (m,) where methods differ; distances: name → (m,). floor: the distance between two
    fresh sets of data, which no sampler can be asked to go below.
    """
    ax, ticks = _axes(ax), set()
    for k, (name, values) in enumerate(distances.items()):
        calls = array(evaluations[name] if isinstance(evaluations, Mapping) else evaluations)
        ax.loglog(calls, array(values), marker=MARKERS[k % len(MARKERS)], ms=5, label=name)
        ticks |= set(calls)
    ax.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    ax.minorticks_off()
    if floor is not None:
        ax.axhline(float(floor), color=BLACK, ls=":", lw=1.5, label="two fresh sets of data")
    ax.set(xlabel="evaluations of the field", ylabel="energy distance")
    ax.legend(loc="upper right")
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
        found = array(values)
        (line,) = ax.loglog(hs, found, marker=MARKERS[k], label=label)
        if orders and label in orders:
            smallest = hs.argmin()
            reference = found[smallest] * (hs / hs[smallest]) ** orders[label]
            ax.loglog(hs, reference, color=line.get_color(), ls="-", lw=3, alpha=0.25, label=f"slope {orders[label]:g}")
    ax.set(xlabel="step size $h$", ylabel="error")
    ax.legend()
    return ax


def animate(
    draw: Callable[[Axes, int], object], frames: int, words: str, seconds: float = 4.0, names: Sequence[str] = ()
) -> Animation:
    """Frames of a picture in the plane, of which draw(ax, k) draws number k = 0, 1, … on clean axes.

    words: what is to be seen, for those who cannot see it. seconds: from the first frame to the last. names: what a
    screen reader says of each frame, by default its number.
    """
    with matplotlib.rc_context(STYLE | {"figure.constrained_layout.use": False}):
        fig, canvas = unshown(figsize=(3.4, 3.4), dpi=80)
        ax = fig.add_axes((0.15, 0.13, 0.82, 0.79))
        pictures = []
        for k in range(frames):
            ax.clear()
            draw(ax, k)
            canvas.draw()
            pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return Animation(pictures, words, seconds, names)


def animate_samples(
    ts, states, words: str, log_prob: Callable | None = None, extent: float = 3.0, seconds: float = 4.0
) -> Animation:
    """Points in the plane as they move, over the density exp(log_prob(x, t)) where given.

    ts: (T,); states: (T, n, 2), a frame each; log_prob: (n, 2), t → (n,); words, seconds: as in `animate`.
    """

    def draw(ax: Axes, k: int) -> None:
        if log_prob is not None:
            plot_density(lambda x: log_prob(x, torch.as_tensor(ts[k])), ax, extent, n=60)
        plot_samples(states[k], ax, color=RED, ms=3).set(xlim=(-extent, extent), ylim=(-extent, extent))
        ax.set_title(f"$t$ = {float(ts[k]):.2f}")

    return animate(draw, len(ts), words, seconds, [f"t = {float(t):.2f}" for t in ts])


def animate_density(log_prob: Callable, ts, words: str, extent: float = 3.0, seconds: float = 4.0) -> Animation:
    """The density exp(log_prob(x, t)) in the plane as it changes, a frame for each of ts: (T,).

    log_prob: (n, 2), t → (n,); words, seconds: as in `animate`.
    """

    def draw(ax: Axes, k: int) -> None:
        plot_density(lambda x: log_prob(x, torch.as_tensor(ts[k])), ax, extent, n=60)
        ax.set_title(f"$t$ = {float(ts[k]):.2f}")

    return animate(draw, len(ts), words, seconds, [f"t = {float(t):.2f}" for t in ts])


class Animation:
    """A picture that moves when its button is pressed, once from beginning to end; a slider shows any frame of it.

    It needs a browser and nothing else. Readers who see no HTML get four frames side by side, and those who see no
    pictures the words. pictures: frames of one size, each (height, width, 3), of bytes. names: of the frames.
    """

    def __init__(self, pictures: Sequence[np.ndarray], words: str, seconds: float = 4.0, names: Sequence[str] = ()):
        if not len(pictures):
            raise ValueError("an animation needs at least one frame; ts and states have none")
        self.pictures, self.words, self.seconds = pictures, words, seconds
        self.names = names or [f"{k} of {len(pictures)}" for k in range(1, len(pictures) + 1)]

    def _repr_mimebundle_(self, **kwargs):
        shown = np.linspace(0, len(self.pictures) - 1, 4).round().astype(int)
        strip = encoded(np.concatenate([self.pictures[k] for k in shown], axis=1), "png")
        return {"text/html": self._player(), "image/png": strip, "text/plain": self.words}

    def _player(self) -> str:
        """All frames in one tall picture, behind a window on one of them that the slider moves.

        Without scripts the window stays at the last frame, and a word below says so, which the picture takes away as
        it loads where scripts run. Key presses go no further, since JupyterLab would take the arrow keys.
        """
        height, width, _ = self.pictures[0].shape
        last, words, names = len(self.pictures) - 1, html.escape(self.words), html.escape("|".join(self.names))
        sheet = encoded(np.concatenate(self.pictures), "webp", lossless=True, method=6)
        pause = round(1000 * self.seconds / max(last, 1))
        move = f"this.closest('figure').querySelector('img').style.marginTop = -{height} * this.value + 'px'"
        name = "this.setAttribute('aria-valuetext', this.dataset.names.split('|')[this.value])"
        return f"""<figure style="margin: 0; width: {width}px" onkeydown="event.stopPropagation()">
<div style="width: {width}px; height: {height}px; overflow: hidden; border: 1px solid {FRAME["edgecolor"]}">
<img alt="{words}" src="data:image/webp;base64,{sheet}" onload="this.closest('figure').lastElementChild.remove()"
 style="display: block; max-width: none; margin-top: -{height * last}px"></div>
<button type="button" onclick="{PLAY.format(pause=pause)}">Play</button>
<label>frame <input type="range" aria-valuetext="{html.escape(self.names[-1])}" data-names="{names}"
 min="0" max="{last}" value="{last}" oninput="{move}; {name}"></label>
<span>Run the cell to play it.</span>
</figure>"""


# What the button does: run once to the end, or stop.
PLAY = """
const button = this, slider = this.closest('figure').querySelector('input');
function stop() {{ clearInterval(button.timer); button.timer = null; button.textContent = 'Play'; }}
function next() {{
  if (+slider.value < +slider.max) {{ slider.value = +slider.value + 1; slider.oninput(); }}
  if (+slider.value == +slider.max) stop();
}}
if (button.timer) return stop();
if (+slider.value == +slider.max) {{ slider.value = 0; slider.oninput(); }}
button.textContent = 'Pause';
button.timer = setInterval(next, {pause});
"""


def describe(words: str) -> None:
    """Show the current figure, with a text alternative that says what is to be seen and what follows from it."""
    import matplotlib.pyplot as plt

    figure = plt.gcf()
    figure.patch.set(**FRAME)
    if "inline" not in plt.get_backend():  # a window, or nothing
        return plt.show()
    from IPython.core.pylabtools import print_figure
    from IPython.display import display

    display(Picture(print_figure(figure, bbox_inches="tight", base64=True), words))
    plt.close(figure)


class Picture:
    """A picture that says what is to be seen in it, to screen readers and in words that unfold below.

    It is shown as HTML, since no front end takes the text alternative of a bare picture. png: the picture in base64.
    """

    def __init__(self, png: str, words: str):
        self.png, self.words = png, words

    def _repr_mimebundle_(self, **kwargs) -> dict[str, str]:
        words, first = html.escape(self.words), html.escape(" ".join(self.words.split()[:6]))
        below = f'<details><summary aria-label="In words: {first} …">In words</summary>{words}</details>'
        return {"text/html": f"{image(self.png, self.words)}{below}", "text/plain": self.words}


def image(png: str, words: str, attributes: str = "") -> str:
    """A picture in base64 as HTML."""
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{png}" style="max-width: 100%"{attributes}>'


def lattice(extent: float, n: int) -> Tensor:
    """The n² points of a square lattice over [−extent, extent]², (n², 2)."""
    side = torch.linspace(-extent, extent, n)
    return torch.cartesian_prod(side, side)


def array(x) -> np.ndarray:
    """Any tensor or sequence as a NumPy array."""
    return torch.as_tensor(x).detach().cpu().double().numpy()


def figure(columns: int = 1, rows: int = 1, width: float = 3.6, height: float = 3.2):
    """A figure with a row (or rows) of panels of equal size. Returns (figure, axes) with axes a flat list."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    return fig, list(axes.flat)


def unshown(**options) -> tuple[Figure, FigureCanvasAgg]:
    """A figure that is only kept in memory, and the canvas that draws it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(**options)
    return figure, FigureCanvasAgg(figure)


def encoded(picture: np.ndarray, kind: str, **options) -> str:
    """An array of pixels as an image file in base64."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, picture, format=kind, pil_kwargs=options)
    return base64.b64encode(buffer.getvalue()).decode()


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


def _plane(ax: Axes, extent: float = math.nan) -> Axes:
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    if not math.isnan(extent):
        ax.set(xlim=(-extent, extent), ylim=(-extent, extent))
    return ax
