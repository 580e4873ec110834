"""One case: a pattern at a length and head dim, computed by all who can, checked first and then timed in turn."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from contact.child import Keep, is_lost, said
from contact.names import BACKWARD, FLEX, FORWARD, MAP, OURS, WITH_MAPS
from torch import Tensor

from gpu.exact import Exact, Wrong, exact
from gpu.loaded import loaded
from gpu.patterns import Inputs
from gpu.peers import Case, Compute, Prepare, block_mask_of, contenders, flex_with
from gpu.timing import Step, Timer, device
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.runtime.backends.tile_choice import CHOOSER

FLOPS = {FORWARD: 4, BACKWARD: 10}
"""Of an attending pair, for each head dim: two products of matrices, and five."""

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Trial:
    """The tensors of a case, and what is known about its results."""

    tensors: list[Tensor]
    toward: Tensor
    exact: Exact


@dataclass(frozen=True, eq=False)
class Entrant:
    """One contender whose results are right: its passes."""

    forward: Step
    backward: Step | None
    """None where it has no backward pass on this device."""


def step(keep: Keep, seconds: float, tunes: bool, **row: Any) -> Record:
    """The step of one row of a plan, on the GPU. `seconds` is how long each measurement takes, about."""
    keep({"row": row})
    with loaded() as kernels:
        record = measure(Case.of(row, device()), Timer(device(), seconds), tunes, keep)
    return record | {"kernels": kernels}


def measure(case: Case, timer: Timer, tunes: bool = False, keep: Keep = lambda record: None) -> Record:
    """Every contender's errors and times, or why there are none. Raises what a GPU ends with that is lost."""
    inputs, mask = case.entry.inputs(case.size), case.entry.mask(case.size)
    figures = mask.stats(**{name: tensor.cpu().numpy() for name, tensor in inputs.items()}).total
    record = {"pairs": figures.attended * case.batch, "density": figures.density, "contenders": {}}
    tensors, toward = case.tensors()
    trial = Trial(tensors, toward, exact(case.entry, case.size, tensors, toward, inputs))
    ready: dict[str, Entrant] = {}
    for name, prepare in contenders(case, inputs, tunes):
        record["contenders"][name] = outcome(partial(enter, name, prepare, trial, timer, ready))
        keep(record)
    work = record["pairs"] * case.dim
    compete(record, FORWARD, {name: each.forward for name, each in ready.items()}, timer, work)
    keep(record)
    back = {name: each.backward for name, each in ready.items() if each.backward is not None}
    compete(record, BACKWARD, back, timer, work)
    keep(record)
    if relation_inputs(mask.ir):
        record[WITH_MAPS] = outcome(partial(with_maps, case, inputs, tensors, ready, timer))
    elif case.entry.mask_mod(case.size, inputs) is not None:
        record[MAP] = outcome(partial(map_alone, case, inputs, timer))
    keep(record)
    record["tiles"] = {
        f"{question.kernel}{' tuned' if tune else ''}": [*choice]
        for (_, tune, question), choice in CHOOSER.answers.items()
    }
    return record


def enter(name: str, prepare: Prepare, trial: Trial, timer: Timer, ready: dict[str, Entrant]) -> Record:
    """One contender: its errors, and it is `ready` if they are small. Raises whatever it raises."""
    computes = prepare()
    errors: dict[str, float] = {}
    forward = fastest([partial(once, each, trial, errors) for each in computes], timer)
    backs = [partial(entered_backward, each, trial, errors) for each in computes]
    record: Record = {"errors": errors}
    try:
        backward = fastest(backs, timer)
    except Exception as error:
        record[BACKWARD], backward = reason(error), None
    ready[name] = Entrant(forward, backward)
    return record


def once(compute: Compute, trial: Trial, errors: dict[str, float]) -> Step:
    """A forward pass that is right."""
    errors["output"] = max(errors.get("output", 0.0), trial.exact.check_output(compute(*trial.tensors)))
    return partial(compute, *trial.tensors)


def entered_backward(compute: Compute, trial: Trial, errors: dict[str, float]) -> Step:
    """A backward pass that is right."""
    out = compute(*trial.tensors)
    if not out.requires_grad:
        raise RuntimeError("no backward pass on this device")  # FlexAttention on a CPU
    step = partial(torch.autograd.grad, out, trial.tensors, trial.toward, retain_graph=True)
    for name, error in trial.exact.check_gradients(step()).items():
        errors[name] = max(errors.get(name, 0.0), error)
    return step


def fastest(alternatives: list[Callable[[], Step]], timer: Timer) -> Step:
    """Of those that can be started, the fastest of a few runs. Raises what the last one does if none can.

    Alternatives that are wrong count as such: nobody is tuned by them.
    """
    steps: list[Step] = []
    failure: Exception | None = None
    for each in alternatives:
        try:
            steps.append(each())
        except Wrong:
            raise
        except Exception as error:
            if is_lost():
                raise
            failure = error
    if not steps:
        assert failure is not None
        raise failure
    return steps[0] if len(steps) == 1 else min(steps, key=lambda step: min(timer.by_event(step) for _ in range(4)))


def compete(record: Record, part: str, steps: dict[str, Step], timer: Timer, work: int) -> None:
    """Times steps in turn into the record of each, and ours once more behind the others: how far clocks have moved."""
    if not steps:
        return
    for name, seconds in timer.in_turn(steps).items():
        record["contenders"][name][part] = {"seconds": seconds, "tflops": work * FLOPS[part] / seconds / 1e12}
    if OURS in steps:
        again = timer.median(steps[OURS])
        ours = record["contenders"][OURS][part]
        ours["drift"] = again / ours["seconds"] - 1


def with_maps(
    case: Case, inputs: Inputs, tensors: list[Tensor], ready: dict[str, Entrant], timer: Timer
) -> dict[str, float]:
    """Seconds by the clock of a forward pass over inputs that changed, which includes the map that they need.

    FlexAttention's is made by compiled `create_block_mask`.
    """
    given = {name: (tensor.clone(), tensor + 1) for name, tensor in inputs.items()}
    mask_mod, score_mod = case.entry.mask_mod(case.size, inputs), case.entry.score_mod(case.size, inputs)
    turn = [0]

    def changed() -> None:
        turn[0] += 1
        for name, tensor in inputs.items():
            tensor.copy_(given[name][turn[0] % 2])

    def by_us() -> Tensor:
        changed()
        return ready[OURS].forward()  # type: ignore[return-value]

    def by_flex() -> Tensor:
        changed()
        block_mask = block_mask_of(mask_mod, case.size)
        return flex_with(block_mask, score_mod, case.entry.scale, case.size.device)(*tensors)

    steps = {OURS: by_us} if OURS in ready else {}
    return timer.in_turn(steps | {FLEX: by_flex}, by_clock=True)


def map_alone(case: Case, inputs: Inputs, timer: Timer) -> dict[str, float]:
    """Seconds by the clock of a map that no input decides: ours from the text of the pattern on, on the host.

    FlexAttention's is made by `create_block_mask`, which was compiled before. A process needs either once.
    """
    mask_mod = case.entry.mask_mod(case.size, inputs)
    steps: dict[str, Step] = {
        OURS: lambda: case.entry.mask(case.size).tiles(),
        FLEX: lambda: block_mask_of(mask_mod, case.size),
    }
    return timer.in_turn(steps, by_clock=True)


def outcome(step: Callable[[], Record]) -> Record:
    """What a step gives, or why it gives nothing. A GPU that is lost ends the process: nobody else could compute."""
    try:
        return step()
    except Exception as error:
        if is_lost():
            raise
        return reason(error)


def reason(error: Exception) -> Record:
    return {"wrong": str(error)} if isinstance(error, Wrong) else {"failed": said(error)}


def compile_ahead(row: dict[str, Any]) -> None:
    """Runs everything of a row once, so that its kernels are on disk. What fails here fails again when it is timed."""
    outcome(partial(run_once, Case.of(row, device())))


def run_once(case: Case) -> Record:
    """Forward and backward passes of all contenders."""
    inputs = case.entry.inputs(case.size)
    tensors, toward = case.tensors()
    for _, prepare in contenders(case, inputs, False):
        outcome(partial(differentiate, prepare, tensors, toward))
    return {}


def differentiate(prepare: Prepare, tensors: list[Tensor], toward: Tensor) -> Record:
    for compute in prepare():
        outcome(partial(differentiated, compute, tensors, toward))
    return {}


def differentiated(compute: Compute, tensors: list[Tensor], toward: Tensor) -> Record:
    torch.autograd.grad(compute(*tensors), tensors, toward)
    return {}
