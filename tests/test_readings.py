"""What readers of the labs stumbled over in verdicts and hints, each as a test of its kind."""

import functools

import numpy as np
import pytest
import torch

from fmlab.checks import lab1, lab2, lab3, lab4, lab5, lab6
from fmlab.schedules import coefficient


def said(exercise, answer) -> str:
    verdict = exercise.examine(answer)
    assert not verdict.passed
    return str(verdict)


def test_times_of_shape_n_that_meet_states_are_spoken_of():
    """The commonest slip of all was a bare RuntimeError."""

    def unshaped(x, z, t, s):
        a, b, da, db = s.alpha(t), s.beta(t), s.alpha_dot(t), s.beta_dot(t)
        return (da - db / b * a) * z + db / b * x

    def loss(u, z, t, noise, s):
        x = s.alpha(t) * z + s.beta(t) * noise
        return (u(x, t) - s.alpha_dot(t) * z - s.beta_dot(t) * noise).flatten(1).square().sum(1).mean()

    for exercise, answer in (lab2.conditional_vector_field, unshaped), (lab3.conditional_flow_matching_loss, loss):
        assert "coefficient(" in said(exercise, answer)


def test_noise_and_times_of_ones_own_are_recognised():
    def own_noise(u, z, t, noise, s):
        noise = torch.randn_like(z)
        a, b, da, db = s.weights(t, z)
        return (u(a * z + b * noise, t) - da * z - db * noise).flatten(1).square().sum(1).mean()

    assert "random numbers of its own" in said(lab3.conditional_flow_matching_loss, own_noise)


def test_a_value_where_a_function_is_asked():
    assert "a function should be returned" in said(lab2.sde_extension_drift, lambda u, score, sigma: torch.ones(3))
    assert "a function should be returned" in said(lab1.langevin_drift, lambda score, sigma: torch.ones(3))


@pytest.mark.parametrize(
    ("exercise", "answer", "named", "not_named"),
    [
        (
            lab1.strong_and_weak_error,
            lambda x, y: ((x - y).abs().median(), (x - y).mean().abs()),
            "median",
            "exchanged",
        ),
        (lab6.fidelity, lambda logits, y: (logits.softmax(0).argmax(1) == y).float().mean(), "", "share of errors"),
        (lab4.forward_marginal, lambda s, *rest: None, "", "not integrated"),
    ],
)
def test_a_wrong_idea_is_not_named(exercise, answer, named, not_named):
    words = said(exercise, answer)
    assert named in words and not_named not in words


def test_slips_are_spoken_of_only_where_some_were_tried():
    words = said(lab2.conditional_vector_field, lambda x, z, t, schedule: 3 * torch.cos(x * z))
    assert "none of the slips I know" in words
    for exercise in lab1:
        if not exercise.mistakes:
            assert "slips" not in said(exercise, lambda *args: torch.tensor(0.123))


def test_numpys_fit_is_a_right_order():
    def fitted(hs, errors):
        return np.polyfit(np.log(hs.numpy()), np.log(errors.numpy()), 1)[0]

    verdict = lab1.convergence_order.examine(fitted)
    assert verdict.passed or "polyfit" not in " ".join(lab1.convergence_order.hints)


def test_a_hint_can_be_followed_for_a_time_that_is_a_number():
    assert coefficient(0.4, torch.ones(3, 2)) == 0.4


def test_an_error_in_a_decorated_answer_is_told_with_its_line():
    @torch.no_grad()
    def sample_flow(u, x0, ts):
        return x0 @ x0  # does not fit

    assert "return x0 @ x0  # does not fit" in said(lab3.sample_flow, sample_flow)

    @functools.wraps(sample_flow)
    def wrapped(*args):
        return sample_flow(*args)

    assert "return x0 @ x0  # does not fit" in said(lab3.sample_flow, wrapped)


def test_building_on_an_exercise_that_is_not_solved_says_which():
    def ddpm_posterior(x, z, k, betas):
        raise NotImplementedError

    def ancestral_step(*args):
        return ddpm_posterior(None, None, None, None)

    assert "it calls ddpm_posterior, which is not solved yet" in said(lab4.ancestral_step, ancestral_step)
    assert "not solved yet; write your solution" in said(lab4.ddpm_posterior, ddpm_posterior)


def test_nan_is_spoken_of():
    """Classes that do not occur have no pairs."""

    def over_all_ten(x, y):
        return torch.stack([torch.pdist(x[y == k].flatten(1)).mean() for k in range(10)]).mean()

    words = said(lab6.diversity, over_all_ten)
    assert "nan" in words or "do not occur" in words


def test_the_first_numbers_shown_are_not_equal_ones():
    for exercise in (lab6.time_embedding, lab5.schedule_from_sde):
        for function in list(exercise.mistakes.values())[:4]:
            verdict = exercise.examine(exercise.mistaken(function))
            assert verdict.expected != verdict.found or not verdict.expected


def test_reread_is_a_link_to_what_the_notebook_shows():
    verdict = lab2.conditional_vector_field.examine(lambda x, z, t, schedule: x)
    html = verdict._repr_mimebundle_()["text/html"]
    assert f'<a href="#{verdict.link}">' in html and 'role="alert"' in html
    for lab in (lab1, lab2, lab3, lab4, lab5, lab6):
        for exercise in lab:
            words = exercise.reread[1] + " ".join(exercise.hints)
            assert "docs/" not in words and "exercise 1" not in words, exercise


def test_a_hint_without_a_name_lists_the_names(capsys):
    lab1.hint()
    assert "euler_step" in capsys.readouterr().out
    with pytest.raises(ValueError, match="euler_step"):
        lab1.hint("euler")


def test_progress_tells_what_was_tried_from_what_was_not(capsys):
    with pytest.raises(AssertionError):
        lab1.heun_step(lambda u, x, t, h: x)
    lab1.progress()
    shown = capsys.readouterr().out
    tried = {line.split()[1]: line for line in shown.splitlines() if line[0] in "✓✗·"}
    assert "not right yet" in tried["heun_step"]
    assert [name for name in tried] == list(lab1.exercises)
    assert all("not right yet" not in tried[name] for name in ("simulate", "linear_flow"))
