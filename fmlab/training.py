"""Training: Adam along a cosine, and the average of the weights it passes.

Step k of K is a step of Adam at the rate lr · ½ (1 + cos(π (k−1)/K)): large first, ever finer later. What is kept is a
running average of the weights θ_k that step k arrives at,

    θ̄_k = θ̄_{k−1} + (c + 1)/(k + c) · (θ_k − θ̄_{k−1}),

which forgets all but about the last 1/c of the run, however long that is, so a run can be stopped at any step.
"""

import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fmlab.values import transforming

AVERAGE = 16  # c: the average reaches back over about 1/c of the run
BAR_FROM = 20  # steps: a shorter run shows no bar, for where it is called in a loop each would stay in the notebook


@dataclass
class Run:
    """Where an interrupted run stands: the weights θ_k themselves, Adam with its state, and k."""

    weights: list[Tensor]
    adam: torch.optim.Optimizer
    done: int


def train(
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    steps: int = 3000,
    lr: float = 1e-2,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Minimise loss(model), drawn anew at each step, and leave the averaged weights in the model, which is returned.

    loss: a callable that draws a batch and returns a scalar, such as

        lambda model: flow_matching_loss(model, GaussianPath(), data.sample(2000))

    steps: K. lr: the rate of the first step. `model.history` lists the losses of all steps so far.

    An interrupt (Ctrl-C, or the stop button) ends the run early and keeps the average so far. Calling `train` again
    with the same model and steps then finishes the run as if it had never stopped, provided `generator` is the one that
    the loss draws from (by default torch's global one of the weights' device): it is set back to the start of the step
    that was broken off.
    After a finished run, `train` begins another one from the averaged weights.

    Raises FloatingPointError naming the step at which the loss was not finite, and ValueError for a loss that is not a
    scalar or does not depend on the weights; the model then keeps the average so far.
    """
    if steps < 1 or not lr > 0:
        raise ValueError(f"need steps ≥ 1 and lr > 0, got {steps} and {lr}")
    if transforming() or torch.is_inference_mode_enabled():
        raise ValueError("training takes gradients of its own: call it outside of torch.func and of inference mode")
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    generator = generator or _usual_generator(weights[0].device if weights else torch.device("cpu"))
    average = [weight.detach().clone() for weight in weights]
    run = _resumed(model, weights) or Run([], _adam(weights, lr), 0)
    history = vars(model).setdefault("history", [])

    before = generator.get_state()
    bar = progress_bar("training", steps, run.done)
    model.train()
    try:
        while run.done < steps:
            _set_rate(run.adam, lr / 2 * (1 + math.cos(math.pi * run.done / steps)))
            value = _differentiate(model, loss, run)
            with interrupts_held():
                run.adam.step()
                run.done += 1
                for mean, weight in zip(average, weights):
                    mean.lerp_(weight.detach(), (AVERAGE + 1) / (run.done + AVERAGE))
                history.append(value)
                before = generator.get_state()
            bar.update()
            if run.done % 50 == 0:
                bar.set_postfix_str(f"loss {sum(history[-50:]) / 50:.3g}", refresh=False)
    except KeyboardInterrupt:
        generator.set_state(before)
        vars(model)["interrupted"] = Run([weight.detach().clone() for weight in weights], run.adam, run.done)
        print(
            f"interrupted after {run.done} of {steps} steps: the model keeps what it has learned; train again to go on"
        )
    finally:
        bar.close()
        _load(weights, average)
        model.eval()
    return model


def _usual_generator(device: torch.device) -> torch.Generator:
    """What draws on a device where nothing else is said."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.mps._get_default_mps_generator() if device.type == "mps" else torch.default_generator


def _differentiate(model: nn.Module, loss: Callable, run: Run) -> float:
    """The loss, and its gradient in the weights."""
    value = loss(model)
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss(model) must return a scalar tensor that depends on the model's weights, got {found}")
    if value.is_meta:
        number = math.nan
    elif not math.isfinite(number := float(value.detach())):
        raise FloatingPointError(f"the loss is {number} at step {run.done + 1}; try a smaller lr or clip the times")
    run.adam.zero_grad()
    value.backward()
    return number


@contextmanager
def interrupts_held():
    """An interrupt that comes within the block is raised at its end, so that a step is counted whole or not at all."""
    if threading.current_thread() is not threading.main_thread():  # where interrupts do not arrive
        yield
        return
    held = []  # before the handler is there, which may be called at once
    handler = signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if held and callable(handler):
        handler(*held[0])


def _adam(weights: Sequence[Tensor], lr: float) -> torch.optim.Optimizer:
    if not weights:
        raise ValueError("the model has no weights to train")
    return torch.optim.Adam(weights, lr, fused=all(weight.device.type in ("cpu", "cuda") for weight in weights))


def _set_rate(adam: torch.optim.Optimizer, lr: float) -> None:
    for group in adam.param_groups:
        group["lr"] = lr


def _resumed(model: nn.Module, weights: Sequence[Tensor]) -> Run | None:
    """The interrupted run of this model, if any, its weights put back in place of the average."""
    run = vars(model).pop("interrupted", None)
    if run is not None:
        _load(weights, run.weights)
    return run


def _load(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values):
            weight.copy_(value)


def progress_bar(what: str, total: int, done: int = 0) -> tqdm:
    """A bar that shows in notebooks and terminals and is gone at the end; files and pipes stay clean.

    Setting the environment variable TQDM_DISABLE to 1 leaves it out, which keeps saved notebooks free of it. Work of
    fewer than 20 steps has none.
    """
    if total < BAR_FROM:
        disable = True
    elif "ipykernel.zmqshell" in sys.modules:
        disable = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    else:
        disable = None  # shown only where stderr is a terminal
    return tqdm(initial=done, total=total, desc=what, leave=False, mininterval=0.2, disable=disable)
