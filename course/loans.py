"""What a student's process is lent as a real object: schedules, and networks with the optimisers that train them.

A schedule is asked where it is. A network and its optimiser travel by value, since an optimiser works on the parameters
themselves; after the call, what has become of them is written into those that were lent. Only the grader lends. Nothing
that a student's process says is made into an object: values are copied where they fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from fmlab.checks.inputs import Weighted
from fmlab.schedules import Schedule

NETWORKS = {kind.__name__: kind for kind in (Weighted,)}
OPTIMIZERS = {kind.__name__: kind for kind in (SGD, Adam)}
STATE = ("step", "momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")  # of an optimiser, for each parameter

Terms = dict[str, dict[str, Any]]  # of a loan: what each argument is and holds, by its place


class Lent(Schedule):
    """A schedule at the other end, where what only it knows is asked; all else follows from that, as for any schedule.

    peer, target: the connection, and the number of the schedule there. words: how it prints.
    """

    def __init__(self, peer: Any, target: int, words: str, functions: Mapping[str, Callable]):
        self._peer, self._target, self._words = peer, target, words
        vars(self).update(functions)

    def __repr__(self) -> str:
        return self._words


def only_known_to(schedule: Schedule) -> dict[str, Callable]:
    """The functions of a schedule that do not follow from others; and the inverse of λ, which bisection would ask for
    too often."""
    names = [name for name, function in vars(Schedule).items() if callable(function) and not name.startswith("__")]
    own = [name for name in names if getattr(type(schedule), name) is not getattr(Schedule, name)]
    return {name: getattr(schedule, name) for name in {*own, "_time_at"}}


# --- networks and optimisers ------------------------------------------------------------------------------------------


def terms(args: Sequence) -> Terms:
    """What is lent of the arguments of a call: optimisers, and the networks whose parameters they hold."""
    optimizers = [arg for arg in args if isinstance(arg, Optimizer)]
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    networks = {
        str(k): arg
        for k, arg in enumerate(args)
        if isinstance(arg, nn.Module) and held & {id(p) for p in arg.parameters()}
    }
    names = {id(p): [k, name] for k, network in networks.items() for name, p in network.named_parameters()}
    found = {k: _of_network(network) for k, network in networks.items()}
    return found | {str(k): _of_optimizer(arg, names) for k, arg in enumerate(args) if isinstance(arg, Optimizer)}


def _of_network(network: nn.Module) -> dict[str, Any]:
    parameters = dict(network.named_parameters())
    return {
        "kind": _known(network, NETWORKS),
        "training": network.training,
        "values": {name: p.detach() for name, p in parameters.items()},
        "gradients": {name: None if p.grad is None else p.grad.detach() for name, p in parameters.items()},
    }


def _of_optimizer(optimizer: Optimizer, names: Mapping[int, list[str]]) -> dict[str, Any]:
    """names: where the parameters are, [place of the network, name], by their id."""
    if not all(id(p) in names for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("an optimiser travels with the networks that it trains")
    return {
        "kind": _known(optimizer, OPTIMIZERS),
        "defaults": optimizer.defaults,
        "groups": [group | {"params": [names[id(p)] for p in group["params"]]} for group in optimizer.param_groups],
        "state": [[names[id(p)], _detached(state)] for p, state in optimizer.state.items()],
    }


def _detached(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.detach() if isinstance(value, Tensor) else value for name, value in state.items()}


def _known(thing: Any, kinds: Mapping[str, type]) -> str:
    name = type(thing).__name__
    if kinds.get(name) is not type(thing):
        raise ValueError(f"{name} does not travel; of this kind, {', '.join(kinds)} do")
    return name


def borrowed(args: Sequence, lent: Terms) -> list:
    """The arguments of a call, with real objects where these terms lend some."""
    networks = {k: _network(**said) for k, said in lent.items() if said["kind"] in NETWORKS}
    optimizers = {k: _optimizer(**said, networks=networks) for k, said in lent.items() if said["kind"] in OPTIMIZERS}
    objects = networks | optimizers
    return [objects.get(str(k), arg) for k, arg in enumerate(args)]


def _network(kind: str, training: bool, values: Mapping[str, Tensor], gradients: Mapping[str, Any]) -> nn.Module:
    network = NETWORKS[kind]().train(training)
    for name, p in network.named_parameters():
        p.data, p.grad = values[name], gradients[name]
    return network


def _optimizer(kind: str, defaults: dict, groups: list, state: list, networks: Mapping[str, nn.Module]) -> Optimizer:
    parameters = {(k, name): p for k, network in networks.items() for name, p in network.named_parameters()}
    held = [group | {"params": [parameters[tuple(place)] for place in group["params"]]} for group in groups]
    optimizer = OPTIMIZERS[kind](held)
    optimizer.defaults |= defaults
    for place, values in state:
        optimizer.state[parameters[tuple(place)]] = values
    return optimizer


def give_back(args: Sequence, became: Mapping[str, Any]) -> None:
    """Let what was lent become what these terms say, as far as they fit it. Raises errors of many kinds otherwise."""
    networks = {k: args[int(k)] for k, said in became.items() if "values" in said}
    for k, network in networks.items():
        for name, p in network.named_parameters():
            with torch.no_grad():
                p.copy_(_like(p, became[k]["values"][name]))
            gradient = became[k]["gradients"][name]
            p.grad = None if gradient is None else _like(p, gradient)
    for k, said in became.items():
        for (place, name), values in said.get("state", ()):
            p = dict(networks[place].named_parameters())[name]
            known = {each: _like(p, value) for each, value in values.items() if each in STATE and value is not None}
            args[int(k)].state[p] = known


def _like(p: Tensor, value: Any) -> Tensor:
    """A tensor that may take the place of a parameter's value, or count its steps."""
    if not isinstance(value, Tensor) or value.shape not in (p.shape, ()) or not value.is_floating_point():
        raise ValueError("no value for a parameter")
    return value.detach().clone()
