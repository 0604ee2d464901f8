"""All that a run is at a moment, whatever number of ranks wrote it: networks, optimizers and the loop's plain facts."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medgan_ray.errors import InputError
from medgan_ray.tasks.protocol import Task, Values

_MOMENTS = ("exp_avg", "exp_avg_sq")


class State:
    """A task's networks with an Adam optimizer a phase, and facts.

    Attributes:
        facts: what guards and controllers remember, as JSON holds it. ``rate``: factor on the learning rate;
            ``rollbacks``: how often the run went back; ``tally``: the guards' counts.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.facts: dict[str, Any] = {"rate": 1.0, "rollbacks": 0, "tally": {}}
        self.optimizers = {
            phase: torch.optim.Adam(
                self.parameters(phase).values(), betas=(task.first_decay, 0.9), eps=1e-8, fused=True
            )
            for phase in task.phases
        }

    def parameters(self, phase: str) -> dict[str, nn.Parameter]:
        """Return what a phase trains, by name: all of its network but the frozen layers."""
        return {name: each for name, each in self.task.trained(phase).named_parameters() if each.requires_grad}

    def step(self, phase: str, gradients: list[Tensor], values: Values) -> None:
        """Take one optimizer's step with these gradients, in the order of ``parameters``."""
        optimizer = self.optimizers[phase]
        group = optimizer.param_groups[0]
        group["lr"], group["betas"] = values.lr * self.facts["rate"], (self.task.first_decay, values.beta2)
        for parameter, gradient in zip(group["params"], gradients, strict=True):
            parameter.grad = _laid_out_like(parameter, gradient)
        optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything by name: ``networks/NAME/…`` and ``optimizers/PHASE/PARAMETER/…``."""
        found = {f"networks/{key}": value for key, value in self.weights().items()}
        for phase, optimizer in self.optimizers.items():
            for name, parameter in self.parameters(phase).items():
                state = optimizer.state[parameter]
                for moment in _MOMENTS:
                    found[f"optimizers/{phase}/{name}/{moment}"] = state.get(moment, torch.zeros_like(parameter))
                found[f"optimizers/{phase}/{name}/step"] = torch.as_tensor(state.get("step", 0.0)).float()
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
        for phase, optimizer in self.optimizers.items():
            for name, parameter in self.parameters(phase).items():
                prefix = f"optimizers/{phase}/{name}"
                optimizer.state[parameter] = {
                    "step": tensors[f"{prefix}/step"].clone(),
                    **{moment: torch.empty_like(parameter).copy_(tensors[f"{prefix}/{moment}"]) for moment in _MOMENTS},
                }


def _laid_out_like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient in the parameter's memory layout: fused Adam walks both as raw memory."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
