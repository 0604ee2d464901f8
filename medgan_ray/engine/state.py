"""All that a run is at a moment, whatever number of ranks wrote it: networks, optimizers and the loop's plain facts."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from medgan_ray.errors import InputError
from medgan_ray.tasks.protocol import Task, Values

EPSILON = 1e-8


class Moments:
    """What Adam remembers of a phase's parameters.

    torch's functional form does the step: its class imports the compiler, which costs a worker that starts again most
    of a second.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self.exp_avg = {name: torch.zeros_like(each) for name, each in parameters.items()}
        self.exp_avg_sq = {name: torch.zeros_like(each) for name, each in parameters.items()}
        self.step = {name: torch.zeros((), device=each.device) for name, each in parameters.items()}

    @torch.no_grad()
    def take(self, gradients: list[Tensor], lr: float, betas: tuple[float, float]) -> None:
        """Take one step with these gradients, in the order of the parameters."""
        pairs = zip(self.parameters.values(), gradients, strict=True)
        adam(
            list(self.parameters.values()),
            [_laid_out_like(parameter, gradient) for parameter, gradient in pairs],
            list(self.exp_avg.values()),
            list(self.exp_avg_sq.values()),
            [],
            list(self.step.values()),
            fused=True,
            amsgrad=False,
            beta1=betas[0],
            beta2=betas[1],
            lr=lr,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by name, ``PARAMETER/KIND``."""
        kinds = {"exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq, "step": self.step}
        return {f"{name}/{kind}": values[name] for name in self.parameters for kind, values in kinds.items()}


class State:
    """A task's networks with Adam's moments a phase, and facts.

    Attributes:
        facts: what guards and controllers remember, as JSON holds it. ``rate``: factor on the learning rate;
            ``rollbacks``: how often the run went back; ``tally``: the guards' counts.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.facts: dict[str, Any] = {"rate": 1.0, "rollbacks": 0, "tally": {}}
        self._moments = {phase: Moments(self.parameters(phase)) for phase in task.phases}

    def parameters(self, phase: str) -> dict[str, nn.Parameter]:
        """Return what a phase trains, by name: all of its network but the frozen layers."""
        return {name: each for name, each in self.task.trained(phase).named_parameters() if each.requires_grad}

    def step(self, phase: str, gradients: list[Tensor], values: Values) -> None:
        """Take one optimizer's step with these gradients, in the order of ``parameters``."""
        self._moments[phase].take(gradients, values.lr * self.facts["rate"], (self.task.first_decay, values.beta2))

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by name: ``networks/NAME/…`` and ``optimizers/PHASE/PARAMETER/…``."""
        found = {f"networks/{key}": value for key, value in self.weights().items()}
        for phase, moments in self._moments.items():
            found |= {f"optimizers/{phase}/{name}": value for name, value in moments.tensors().items()}
        return found

    def snapshot(self) -> dict[str, Tensor]:
        """Return copies of ``tensors`` in this machine's memory, which training does not touch."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.tensors().items()}

    def finite(self) -> bool:
        """Say whether every weight is a number."""
        return all(bool(torch.isfinite(value).all()) for value in self.weights().values() if value.is_floating_point())

    def weights(self) -> dict[str, Tensor]:
        """Return the networks' tensors by name, ``NETWORK/…``."""
        return {
            f"{network}/{name}": value
            for network, module in self.task.networks.items()
            for name, value in module.state_dict().items()
        }

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], where: str) -> None:
        """Take over what ``tensors`` returned, and the facts.

        Raises:
            InputError: if names or shapes are not this state's.
        """
        mine = {name: tuple(value.shape) for name, value in self.tensors().items()}
        if mine != {name: tuple(value.shape) for name, value in tensors.items()}:
            raise InputError("checkpoint is of other networks", where, "give the run another name")
        self.facts = {**self.facts, **facts}
        for network, module in self.task.networks.items():
            module.load_state_dict({name: tensors[f"networks/{network}/{name}"] for name in module.state_dict()})
        for phase, moments in self._moments.items():
            for name, value in moments.tensors().items():
                value.copy_(tensors[f"optimizers/{phase}/{name}"])


def _laid_out_like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient in the parameter's memory layout: fused Adam walks both as raw memory."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
