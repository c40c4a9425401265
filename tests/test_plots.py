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
        "signed values": lambda ax=None: plots.plot_signed(lambda x: x[:, 0], ax),
        "density in time": lambda ax=None: plots.plot_density_in_time(lambda x, t: -((x[:, 0] - t) ** 2), ax),
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


def test_images_stand_in_rows_with_nothing_between():
    x = torch.arange(5.0)[:, None, None, None].expand(5, 1, 2, 3)
    _, given = plt.subplots()
    ax = plots.plot_images(x, given, columns=3, low=0, high=4)
    assert ax is given and plots.plot_images(x).figure is not given.figure
    (picture,) = ax.images
    sheet = picture.get_array().filled(np.nan)
    assert sheet.shape == (5, 11) and picture.get_clim() == (0, 4)
    for k in range(5):
        top, left = 3 * (k // 3), 4 * (k % 3)
        assert (sheet[top : top + 2, left : left + 3] == k).all()
    assert np.isnan(sheet[2]).all() and np.isnan(sheet[:, [3, 7]]).all() and np.isnan(sheet[3:, 8:]).all()
    ax.figure.canvas.draw()


def test_smoothed_images_are_larger_and_as_bright():
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    (picture,) = plots.plot_images(x, columns=3, smooth=4).images
    sheet = picture.get_array().filled(np.nan)
    assert sheet.shape == (2 * 36 - 4, 3 * 36 - 4)
    assert np.nanmean(sheet[:32, :32]) == pytest.approx(float(x[0].mean()), abs=0.02)
    assert np.isnan(sheet[32:36]).all() and np.isnan(sheet[:, 32:36]).all()


def test_signed_values_are_centred_at_0_and_drawn_the_right_way_up():
    ax = plots.plot_signed(lambda x: x[:, 0] - 2 * x[:, 1], extent=1.0, n=21)
    mesh, side = ax.collections[0], np.linspace(-1, 1, 21)
    np.testing.assert_allclose(mesh.get_array().reshape(21, 21), side[None] - 2 * side[:, None], atol=1e-6)
    assert mesh.get_clim() == pytest.approx((-3, 3))
    assert plots.plot_signed(lambda x: 0 * x[:, 0], limit=0.5).collections[0].get_clim() == (-0.5, 0.5)


def test_density_in_time_is_drawn_the_right_way_up():
    ax = plots.plot_density_in_time(lambda x, t: -50 * (x[:, 0] - 2 * t + 1) ** 2, n=61)
    shade = ax.collections[0].get_array().reshape(61, 61)
    assert np.linspace(-3, 3, 61)[shade.argmax(0)] == pytest.approx(2 * np.linspace(0, 1, 61) - 1, abs=0.05)


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
