"""Pictures show what they were given: the data on the axes, with labels. Who can read them: see test_figures.py."""

import base64
import io

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

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
        "marginals": lambda ax=None: plots.plot_marginals(
            ts, torch.randn(5, 20, 1), ax, lambda x, t: torch.exp(-x * x)
        ),
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


def test_a_history_is_drawn_as_means_over_a_window_at_the_step_where_it_ends():
    line = plots.plot_history(torch.arange(100), window=50).lines[0]
    assert list(line.get_xdata()) == [50, 60, 70, 80, 90, 100]
    np.testing.assert_allclose(line.get_ydata(), np.arange(24.5, 80, 10))
    with pytest.raises(ValueError, match="49 steps has no mean of 50; give a smaller window"):
        plots.plot_history(torch.zeros(49))


def test_points_are_counted_in_squares_the_right_way_up():
    counts = plots.plot_counts(torch.tensor([[2.5, -2.5]] * 3), bins=6).collections[0].get_array().reshape(6, 6)
    assert counts[0, 5] == 3 and counts.sum() == 3


def test_distances_are_drawn_at_their_own_evaluations_with_the_floor():
    calls = {"Euler": [3, 6], "Heun": torch.tensor([6, 12])}
    ax = plots.plot_distances(calls, {"Euler": [0.3, 0.2], "Heun": [0.1, 0.05]}, floor=0.01)
    assert [list(line.get_xdata()) for line in ax.lines] == [[3, 6], [6, 12], [0, 1]]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["3", "6", "12"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Euler", "Heun", "two fresh sets of data"]
    assert list(plots.plot_distances([3, 6], {"Euler": [0.3, 0.2]}).lines[0].get_xdata()) == [3, 6]


def test_marginals_stand_at_their_times_with_one_scale():
    """Uniform states on an interval of length 1, then of length 2: half as high."""
    states = torch.stack([torch.linspace(0, 1, 4001), torch.linspace(0, 2, 4001)])
    ax = plots.plot_marginals([0, 1], states, None, lambda x, t: (x <= 1 + t) / (1 + t), [0.0, 0.5, 1.0, 1.5, 2.0])
    first, second = (stairs.get_data() for stairs in ax.patches)
    np.testing.assert_allclose(first.values, [0.9, 0.9, 0, 0], atol=0.01)
    np.testing.assert_allclose(second.values, 1 + 0.45 * np.ones(4), atol=0.01)
    assert [stairs.baseline for stairs in (first, second)] == [0, 1]
    for line, height in zip(ax.lines, (0.9, 1.45)):
        assert line.get_xdata().max() == pytest.approx(height, abs=0.01)
    labels = [text.get_text() for text in ax.legend().get_texts()]
    assert labels == ["samples", "exact density"]


def test_marginals_count_states_beyond_the_edges():
    """Half of the states are outside of the bins: what is inside has half the mass."""
    ax = plots.plot_marginals(
        [0.0], torch.linspace(0, 2, 4001)[None], bins=[0.0, 0.5, 1.0], density=lambda x, t: 1 + 0 * x
    )
    np.testing.assert_allclose(ax.patches[0].get_data().values, 0.45, atol=0.01)


def frames_of(animation) -> np.ndarray:
    """What the player shows, (frames, height, width, 3)."""
    page = animation._repr_mimebundle_()["text/html"]
    sheet = Image.open(io.BytesIO(base64.b64decode(page.split("base64,")[1].split('"')[0])))
    return np.asarray(sheet.convert("RGB")).reshape(len(animation.pictures), -1, sheet.width, 3)


def test_an_animation_shows_each_frame_and_four_of_them_side_by_side_where_nothing_moves():
    drawn = []
    animation = plots.animate(lambda ax, k: drawn.append(ax.plot([0, k])), 7, "A line that rises.")
    data = animation._repr_mimebundle_()
    assert len(drawn) == 7
    np.testing.assert_array_equal(frames_of(animation), animation.pictures)  # nothing is lost in compression
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB"))
    np.testing.assert_array_equal(strip, np.concatenate([animation.pictures[k] for k in (0, 2, 4, 6)], axis=1))
    assert data["text/plain"] == "A line that rises."
    assert 'alt="A line that rises."' in data["text/html"] and "<script" not in data["text/html"]


def test_animated_samples_and_densities_move():
    ts = torch.linspace(0, 1, 3)
    states = torch.stack([torch.full((5, 2), 4 * float(t) - 2) for t in ts])

    def log_prob(x, t):
        return -((x - 4 * t + 2) ** 2).sum(1)

    for animation in (
        plots.animate_samples(ts, states, "up"),
        plots.animate_samples(ts, states, "up", log_prob),
        plots.animate_density(log_prob, ts, "up"),
    ):
        centres = []
        for picture in animation.pictures:
            inner = picture[40:220, 70:230].mean(2)
            row, column = np.nonzero(inner < 200)
            centres.append((column.mean(), row.mean()))
        (x0, y0), (x1, y1), (x2, y2) = centres
        assert x0 < x1 - 20 and x1 < x2 - 20 and y0 > y1 + 20 and y1 > y2 + 20


def test_an_animation_needs_frames():
    with pytest.raises(ValueError, match="at least one frame"):
        plots.Animation([], "nothing")


def test_describe_shows_the_current_figure_where_there_is_no_notebook(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    figure = plots.plot_paths([0, 1], [[0], [1]]).figure
    assert plots.describe("A line & no curve.") is None and shown == [figure]


def test_a_picture_says_what_is_to_be_seen():
    data = plots.Picture("iVBORw0KGgo=", 'A "line" & no curve that anybody could see.')._repr_mimebundle_(include=None)
    assert data["text/plain"] == 'A "line" & no curve that anybody could see.'
    words = "A &quot;line&quot; &amp; no curve that anybody could see."
    assert f'<img alt="{words}" src="data:image/png;base64,iVBORw0KGgo="' in data["text/html"]
    assert f"In words</summary>{words}</details>" in data["text/html"]
