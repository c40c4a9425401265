"""Pictures show what they were given: the data on the axes, labels, and colours that all readers can tell apart."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from fmlab import plots
from fmlab.distributions import Gaussian


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def rotation(x, t):
    return torch.stack([-x[:, 1], x[:, 0]], 1)


def pictures():
    p, ts = Gaussian([0.0, 0.0], 1.0), torch.linspace(0, 1, 5)
    x = torch.randn(30, 2, requires_grad=True)
    return {
        "paths": lambda ax=None: plots.plot_paths(ts, torch.randn(5, 3, 1, requires_grad=True), ax, label="paths"),
        "band": lambda ax=None: plots.plot_band(ts, ts, ts, plots.plot_paths(ts, ts[:, None], ax)),
        "trajectories": lambda ax=None: plots.plot_trajectories(torch.randn(5, 4, 2), ax),
        "samples": lambda ax=None: plots.plot_samples(x, ax),
        "vector field": lambda ax=None: plots.plot_vector_field(rotation, 0.5, ax),
        "warped grid": lambda ax=None: plots.plot_warped_grid(lambda x: rotation(x, 0.0), ax),
        "density": lambda ax=None: plots.plot_density(p.log_prob, ax),
        "histogram": lambda ax=None: plots.plot_histogram(x, ax, lambda g: torch.exp(-g)),
        "convergence": lambda ax=None: plots.plot_convergence(ts[1:], {"Euler": ts[1:] ** 2}, {"Euler": 2}, ax),
    }


@pytest.mark.parametrize("name", pictures())
def test_a_picture_draws_on_the_given_axes_with_labels(name):
    draw = pictures()[name]
    _, ax = plt.subplots()
    assert draw(ax) is ax
    assert ax.get_xlabel() and ax.get_ylabel() and ax.has_data()
    assert draw().figure is not ax.figure
    ax.figure.canvas.draw()


def test_paths_are_drawn_as_they_are():
    ts, states = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([[0.0, 5.0], [1.0, 4.0], [2.0, 3.0]])
    drawn = {tuple(line.get_ydata()) for line in plots.plot_paths(ts, states).lines}
    assert drawn == {(0, 1, 2), (5, 4, 3)}


def test_field_arrows_point_along_the_field():
    ax = plots.plot_vector_field(rotation, 0.0, extent=1.0, n=3)
    arrows = ax.collections[0]
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], 1), plots.array(rotation(plots.lattice(1.0, 3), 0.0)))


def test_density_is_drawn_the_right_way_up():
    ax = plots.plot_density(Gaussian([2.0, -1.0], 0.1).log_prob, extent=3, n=61)
    shade = ax.collections[0].get_array().reshape(61, 61)
    row, column = np.unravel_index(shade.argmax(), shade.shape)
    side = np.linspace(-3, 3, 61)
    assert (side[column], side[row]) == pytest.approx((2.0, -1.0))


def test_convergence_reference_lines_have_their_slopes():
    hs = torch.tensor([0.1, 0.05, 0.025])
    ax = plots.plot_convergence(hs, {"Heun": 7 * hs**2}, {"Heun": 2})
    measured, reference = (line.get_ydata() for line in ax.lines)
    np.testing.assert_allclose(measured, reference, rtol=1e-6)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Heun", "slope 2"]


# Matrices of Viénot, Brettel and Mollon (1999) in linear RGB: how a protanope and a deuteranope see a colour.
PROTANOPE = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTERANOPE = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


@pytest.mark.parametrize("sight", [np.eye(3), PROTANOPE, DEUTERANOPE], ids=["full", "protanope", "deuteranope"])
def test_curves_can_be_told_apart_by_colour_blind_readers(sight):
    """Any two curves of a figure with up to four differ clearly in colour."""
    colours = np.array([matplotlib.colors.to_rgb(style["color"]) for style in plots.STYLE["axes.prop_cycle"]])[:4]
    seen = np.clip((colours**2.2) @ sight.T, 0, 1) ** (1 / 2.2)
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 9 * np.eye(len(seen))
    assert distances.min() > 0.3


def test_curves_can_be_told_apart_in_greyscale_by_their_line_styles():
    styles = [str(style["linestyle"]) for style in plots.STYLE["axes.prop_cycle"]]
    assert len(set(styles[:6])) == 6
