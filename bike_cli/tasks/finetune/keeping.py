"""The model that a run writes: the best one by validation, and WiSE-FT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bike_cli.config import Recipe
from bike_cli.engine.engine import Engine
from bike_cli.engine.models.folder import CONFIG_FILE, load_folder, save_folder
from bike_cli.engine.models.weights import UNWRITABLE
from bike_cli.errors import UsageError, first_line
from bike_cli.inference.processes import ProcessGroup
from bike_cli.tasks.finetune.plan import RunPlan
from bike_cli.tasks.finetune.run_folder import FINE_TUNED, RunFolder
from bike_cli.tasks.finetune.snapshots import Metrics, RunResults
from bike_cli.tasks.finetune.validation import Validation

DISK_MARGIN = 1.1  # times what a run is known to write


@dataclass(eq=False)
class BestModel:
    """The best model of a run, and its results. `restore` and `mix` change the weights of the plan's engine."""

    plan: RunPlan
    folder: RunFolder
    group: ProcessGroup
    initial: Mapping[str, Tensor]  # weights before training, by name, which `mix` goes back to; empty without WiSE-FT
    results: RunResults  # results so far; those of the checkpoint if the run is resumed
    since_best: int  # epochs since the best one

    def add_start(self, validation: Validation) -> None:
        """Note the metrics before training."""
        self.results = replace(self.results, start=validation.metrics)

    def add_epoch(self, validation: Validation) -> None:
        """Note the result of an epoch; write the model if it is the best one."""
        self.since_best = 0 if validation.is_best else self.since_best + 1
        if validation.is_best:
            epoch, metrics = validation.epoch, validation.metrics
            self.results = replace(self.results, epoch=epoch, value=metrics[self.plan.metric], metrics=metrics)
            self._write(self.plan.engine, self.plan.recipe)

    def add_mixed(self, validation: Validation) -> None:
        """Note the result of the mixed weights, and write them."""
        self.results = replace(self.results, wise_ft=validation.metrics)
        self._write(self.plan.engine, self.plan.recipe)

    def add_fused(self, engine: Engine, weight: float, validation: Validation, *, attributes: Metrics | None) -> None:
        """Note the result of both branches and of attributes alone, and write the engine with the attribute branch."""
        self.results = replace(self.results, attributes=attributes, fused=validation.metrics, attribute_weight=weight)
        self._write(engine, replace(self.plan.recipe, attribute_weight=weight))

    def restore(self) -> None:
        """Restore the weights of the best epoch."""
        model, head = self.plan.engine.encoder.model, self.plan.engine.temporal_head
        if self.group.is_first:
            # If the run was killed after WiSE-FT, its folder already holds the mixed weights.
            fine_tuned = self.folder.path / FINE_TUNED
            best = load_folder(fine_tuned if (fine_tuned / CONFIG_FILE).exists() else self.folder.path)
            model.load_state_dict(best.clip.state_dict())
            if head is not None and best.temporal_head is not None:
                head.load_state_dict(best.temporal_head.state_dict())
        self.group.broadcast_weights(model)
        if head is not None:
            self.group.broadcast_weights(head)

    @torch.no_grad()
    def mix(self, share: float) -> None:
        """Interpolate between the initial weights (0) and the best ones (1); those are written to `fine_tuned/` first.

        Source: WiSE-FT, arXiv:2109.01903.
        """
        self._write(self.plan.engine, self.plan.recipe, FINE_TUNED)
        weights = named_weights(self.plan.engine)
        for name, initial in self.initial.items():
            weights[name].lerp_(initial.to(weights[name].device), 1 - share)

    def _write(self, engine: Engine, recipe: Recipe, subfolder: str = "") -> None:
        if not self.group.is_first:
            return
        folder = self.folder.path / subfolder
        trained = replace(engine, recipe=recipe, training=self.plan.training)
        checkpoint = trained.as_checkpoint(name=self.folder.path.resolve().name)
        try:
            save_folder(folder, checkpoint)
        except UNWRITABLE as e:
            raise UsageError(
                f"{folder}: cannot be written ({first_line(e)}); free some space, and continue with --resume"
            ) from e


def named_weights(engine: Engine) -> dict[str, Tensor]:
    """Return the parameters of a model by name: `clip.*`, then `head.*`."""
    weights: dict[str, Tensor] = {f"clip.{name}": p for name, p in engine.encoder.model.named_parameters()}
    if engine.temporal_head is not None:
        weights |= {f"head.{name}": p for name, p in engine.temporal_head.named_parameters()}
    return weights


def initial_weights(engine: Engine, trained: Iterable[str], *, has_new_head: bool) -> dict[str, Tensor]:
    """Return copies of the trained weights before training; a new head had none."""
    weights, prefixes = named_weights(engine), ("clip.",) if has_new_head else ("clip.", "head.")
    return {n: weights[n].detach().cpu().clone() for n in trained if n in weights and n.startswith(prefixes)}


def disk_space_needed(engine: Engine, trained: Iterable[Tensor], *, models: int) -> int:
    """Return the bytes that a run needs on disk if it leaves this number of models."""
    weights = sum(p.numel() * p.element_size() for p in engine.encoder.model.parameters())
    state = 3 * sum(p.numel() * p.element_size() for p in trained)  # a weight and two numbers of the optimizer
    # While a file is replaced, there is one model and one checkpoint more than are kept.
    return int(DISK_MARGIN * ((models + 1) * weights + 3 * state))
