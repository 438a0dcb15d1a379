"""A plain, resumable training loop.

AdamW, warm-up / constant / linear decay, gradient clipping, ramped EMA.

The schedule is a trapezoid rather than a cosine because its length can be changed while it is flat:
a run that is stopped early is finished by resuming it with a smaller `steps`. State (model, EMA,
optimiser, RNG, step) is saved atomically, so a killed run continues where its last checkpoint
stood, with the same batches it would have seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from geco_core.checkpoints.legacy import load_tensors
from geco_core.errors import Fatal


@dataclass(frozen=True)
class LoopConfig:
    """Numbers of one training run. Rates are per step; times in seconds."""

    steps: int = 10_000
    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay_steps: int = 2_000
    final_rate_share: float = 0.01
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    checkpoint_every: int = 500
    evaluate_every: int = 2_000
    log_every: int = 50
    bfloat16: bool = True

    def rate(self, step: int) -> float:
        """Learning rate at `step` (0-based).

        Linear warm-up, constant, linear decay to `final_rate_share`.
        """
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = (self.steps - step) / max(1, self.decay_steps)
        fall = min(1.0, max(self.final_rate_share, left))
        return self.learning_rate * rise * fall


class Trainable(Protocol):
    """A module and a loss per step."""

    @property
    def model(self) -> nn.Module:
        """The module under training."""
        ...

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of the batch that belongs to `step`; `generator` is seeded by (run seed, step)."""
        ...


class Task(Trainable, Protocol):
    """What the loop trains: a module, a loss per step, an evaluation of the EMA weights."""

    def evaluate(self, step: int, folder: Path) -> Mapping[str, float]:
        """Numbers on held-out objects, with the EMA weights in place.

        May write images into `folder`.
        """
        ...


Report = Callable[[int, Mapping[str, float]], None]


class Ema:
    """Exponential moving average of floating-point parameters and buffers.

    The decay is ramped as min(decay, (1 + step) / (10 + step)): a constant high decay makes the
    first thousand steps look untrained.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model by the ramped decay of `step` (0-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        source = model.state_dict()
        for key, average in self.shadow.items():
            if average.dtype.is_floating_point:
                average.lerp_(source[key], 1 - decay)

    def load(self, shadow: Mapping[str, Tensor]) -> None:
        """Continue from a stored `shadow`. Raises `ValueError` for that of another module."""
        if shadow.keys() != self.shadow.keys():
            raise ValueError("the stored average is of another module")
        for key, average in self.shadow.items():
            average.copy_(shadow[key])

    def swap(self, model: nn.Module) -> None:
        """Exchange the model's weights with the average, in place; call again to undo."""
        current = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.shadow)
        self.shadow = current


def train(
    task: Task, config: LoopConfig, folder: Path, report: Report, evaluate: Report
) -> dict[str, Tensor]:
    """Train until `config.steps`, resuming from `folder/checkpoint.pt` when it is there.

    Args:
        task: what is trained.
        config: how.
        folder: holds the checkpoint; created when missing.
        report: called every `log_every` steps with mean losses, rate and samples per second.
        evaluate: called every `evaluate_every` steps with the task's numbers under EMA weights.

    Returns:
        The EMA state dict.

    Raises:
        Fatal: the loss became non-finite, or the checkpoint does not fit the model.
    """
    torch.manual_seed(config.seed)  # dropout inside third-party modules draws from this generator
    optimizer = make_optimizer(task.model, config)
    ema = Ema(task.model, config.ema_decay)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    meter = _Meter(config, report)
    for step in range(_resume(checkpoint, task.model, ema, optimizer), config.steps):
        meter.add(step, train_step(task, config, step, optimizer, config.rate(step)))
        ema.update(task.model, step)
        done, last = step + 1, step + 1 == config.steps
        if done % config.checkpoint_every == 0 or last:
            _save(checkpoint, done, task.model, ema, optimizer)
        if done % config.evaluate_every == 0 or last:
            evaluate(done, _evaluate(task, ema, done, folder))
            meter.restart()
    return {k: v.detach().clone() for k, v in ema.shadow.items()}


def make_optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """AdamW without weight decay on biases, norms and other vectors."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def train_step(
    task: Trainable,
    config: LoopConfig,
    step: int,
    optimizer: torch.optim.Optimizer,
    rate: float,
) -> dict[str, float]:
    """One update at learning rate `rate`: the loss, its parts and the norm of the gradient.

    Raises `Fatal` when the loss is not finite.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    generator = torch.Generator().manual_seed(_mix(config.seed, step))
    task.model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        loss, parts = task.loss(step, generator)
    if not torch.isfinite(loss):
        message = f"the loss is {loss.item()} at step {step}"
        raise Fatal(message, stage="train", remedy="lower the learning rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(task.model.parameters(), config.clip_norm)
    optimizer.step()
    return {"loss": float(loss.detach()), "grad_norm": float(norm), **parts}


class _Meter:
    """Means of the numbers of `log_every` steps, and the throughput between two reports."""

    def __init__(self, config: LoopConfig, report: Report) -> None:
        self._config, self._report = config, report
        self._sums: dict[str, float] = {}
        self._count, self._clock = 0, time.perf_counter()

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        for key, value in numbers.items():
            self._sums[key] = self._sums.get(key, 0.0) + value
        self._count += 1
        if (step + 1) % self._config.log_every and step + 1 != self._config.steps:
            return
        seconds = time.perf_counter() - self._clock
        means = {k: v / self._count for k, v in self._sums.items()}
        throughput = self._count * self._config.batch_size / seconds
        rate = self._config.rate(step)
        self._report(step + 1, means | {"rate": rate, "samples_per_s": throughput})
        self.restart()

    def restart(self) -> None:
        self._sums, self._count, self._clock = {}, 0, time.perf_counter()


def _evaluate(task: Task, ema: Ema, step: int, folder: Path) -> Mapping[str, float]:
    ema.swap(task.model)
    task.model.eval()
    try:
        with torch.no_grad():
            return task.evaluate(step, folder)
    finally:
        ema.swap(task.model)


def _save(
    path: Path, step: int, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer
) -> None:
    state = {
        "step": step,
        "model": model.state_dict(),
        "ema": ema.shadow,
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def _resume(path: Path, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer) -> int:
    if not path.is_file():
        return 0
    state: dict[str, Any] = load_tensors(path)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise Fatal(
            f"checkpoint {path} does not fit this model: {error}",
            remedy="use another folder or the old configuration",
        ) from error
    ema.shadow = state["ema"]
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    return int(state["step"])


def _mix(seed: int, step: int) -> int:
    # splitmix64: neighbouring steps get unrelated streams, which consecutive seeds do not promise.
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (z ^ (z >> 31)) >> 1
