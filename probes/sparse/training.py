"""Training of sparse autoencoders: over batches that may come from any disk, seeded, and gone on with after a kill.

    rows = ShuffledRows(stored, "network.middle1", batch=4096, seed=0)
    autoencoder = train_sparse(rows.epoch, features=2048, k=16, steps=5000, path="middle1.safetensors")

Every step lowers the squared error of the reconstruction, and an auxiliary one: features that were silent for long are
asked to reconstruct what is left (Gao et al. 2024, section 2.4). Columns of the decoder keep unit length.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors
from scorescope.probes.sparse.autoencoder import Kind, SparseAutoencoder, largest

Batches = Callable[[int], Iterable[Tensor]]
"""The batches (n, width) of an epoch: the same whenever they are asked for."""
_DECAY = 0.2  # of the steps, the last ones, in which the step size falls to 0
_MEMORY = 0.99  # of the running mean of the threshold
_DONE = ("steps", "epoch", "place", "rows")  # how far a training came
_MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam


@checked
def train_sparse(
    batches: Batches,
    *,
    features: int,
    k: int,
    steps: int,
    kind: Kind = "topk",
    lr: float = 1e-3,
    auxiliary: int | None = None,
    auxiliary_weight: float = 1 / 32,
    dead_after: int = 100_000,
    seed: int = 0,
    path: str | Path | None = None,
    save_every: int = 1000,
    device: str = "cpu",
    progress: bool = False,
) -> SparseAutoencoder:
    """Train a sparse autoencoder.

    Parameters
    ----------
    batches : callable
        Epoch to batches of activations, (n, width); such as `ShuffledRows.epoch`. They are read once an epoch.
    features, k, kind
        As in `SparseAutoencoder`.
    steps : int
        Batches to train on; epochs follow one another.
    lr : float
        Step size of Adam; in the last fifth of the steps it falls linearly to 0.
    auxiliary : int, optional
        Silent features that reconstruct what is left in each row; by default half the channels.
    auxiliary_weight : float
        Weight of their loss.
    dead_after : int
        Rows without activity after which a feature counts as silent.
    seed : int
        Of the first weights; the order of rows is that of `batches`.
    path : str or Path, optional
        A safetensors file: written every `save_every` steps and at the end, with the state of training; where it is
        there already, training goes on with it, and ends with the numbers of one run.
    device : str
        Where to train.
    progress : bool
        Show a progress bar.

    Returns
    -------
    SparseAutoencoder
        On the CPU; its `card` says how it was trained.

    Raises
    ------
    InputError
        For sizes that do not fit, batches that hold nothing or are not finite, and a file of another training.
    """
    if steps < 1 or save_every < 1 or dead_after < 1 or not lr > 0 or auxiliary_weight < 0:
        found = f"{steps}, {save_every}, {dead_after}, {lr}, {auxiliary_weight}"
        expected = "at least 1, a positive step size, and no negative weight"
        raise InputError("steps, save_every, dead_after, lr, auxiliary_weight", found=found, expected=expected)
    asked = {
        "features": features, "k": k, "kind": kind, "steps": steps, "lr": lr, "auxiliary": auxiliary,
        "auxiliary_weight": auxiliary_weight, "dead_after": dead_after, "seed": seed,
    }  # fmt: skip
    file = None if path is None else Path(path)
    if file is not None and file.exists():
        run = _Run.resumed(file, asked, device)
    else:
        run = _Run.begun(_first(batches), asked, device)
    with tqdm(total=steps, initial=run.step, desc="sparse features", disable=not progress, leave=False) as bar:
        while run.step < steps:
            for batch in islice(batches(run.epoch), run.place, run.place + steps - run.step):
                _check(batch)
                bar.set_postfix(error=f"{run.learn(batch.to(device)):.3f}", silent=run.silent(), refresh=False)
                bar.update()
                if file is not None and run.step % save_every == 0 and run.step < steps:
                    run.save(file)
            if not run.place:
                raise _nothing(run.epoch)
            if run.step < steps:
                run.epoch, run.place = run.epoch + 1, 0
    if file is not None:
        run.save(file)
    return run.finished()


class _Run:
    """An autoencoder that is being trained: its optimiser, and when each feature was last active."""

    def __init__(self, model: SparseAutoencoder, asked: dict[str, Any], device: str) -> None:
        self.model, self.asked = model.to(device).train(), asked
        self.optimiser = torch.optim.Adam(model.parameters(), lr=asked["lr"])
        self.idle = torch.zeros(model.features, dtype=torch.int64, device=device)  # rows since it was active
        self.step = self.epoch = self.place = self.rows = 0

    @classmethod
    def begun(cls, first: Tensor, asked: dict[str, Any], device: str) -> "_Run":
        """A new one, centred and scaled by the first batch."""
        width = first.shape[1]
        model = SparseAutoencoder(width, asked["features"], asked["k"], kind=asked["kind"], seed=asked["seed"])
        centre = first.float().mean(0)
        scale = (first.float() - centre).square().mean().sqrt()
        if not scale > 0:
            raise InputError("batches", found="rows that are all alike", expected="rows that differ")
        model.centre.data.copy_(centre)
        model.scale.copy_(scale)
        return cls(model, asked, device)

    @classmethod
    def resumed(cls, file: Path, asked: dict[str, Any], device: str) -> "_Run":
        """One that goes on with what `save` wrote."""
        model, state = SparseAutoencoder.read(file)
        before = model.card.get("asked")
        before = before if isinstance(before, dict) else {}
        for name, value in asked.items():
            if before.get(name) != value:
                expected = f"{before.get(name)!r}, as in {file}, or another file"
                raise InputError(name, found=repr(value), expected=expected)
        run = cls(model, asked, device)
        with only_input_errors(file, expected="an autoencoder with the state of its training"):
            run.go_on(model.card, state)
        return run

    def go_on(self, card: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
        """Take over how far a training came."""
        done = [card[name] for name in _DONE]
        if not all(type(number) is int and number >= 0 for number in done):
            raise ValueError(f"{', '.join(_DONE)} of {done}")
        self.step, self.epoch, self.place, self.rows = done
        self.idle.copy_(_like(self.idle, state["idle"]))
        for name, parameter in self.model.named_parameters():
            moments = {part: _like(parameter, state[f"{part}.{name}"]) for part in _MOMENTS}
            self.optimiser.state[parameter] = {"step": torch.tensor(float(self.step)), **moments}

    def save(self, file: Path) -> None:
        """Weights and the state of training, in one file."""
        self.model.card = self.card()
        more = {"idle": self.idle}
        for name, parameter in self.model.named_parameters():
            kept = self.optimiser.state[parameter]
            more |= {f"{part}.{name}": kept[part] for part in _MOMENTS}
        self.model.save(file, more=more)

    def card(self) -> dict[str, Any]:
        """How it was trained so far."""
        done = dict(zip(_DONE, (self.step, self.epoch, self.place, self.rows), strict=True))
        return {"asked": self.asked, **done, "silent": self.silent()}

    def silent(self) -> int:
        """Features that were not active for long."""
        return int((self.idle >= self.asked["dead_after"]).sum())

    def finished(self) -> SparseAutoencoder:
        """The autoencoder, to be used."""
        self.model.card = self.card()
        return self.model.eval().cpu()

    def learn(self, batch: Tensor) -> float:
        """One step; gives the squared error a number, in units of the first batch's variance."""
        model, left = self.model, 1 - self.step / self.asked["steps"]
        for group in self.optimiser.param_groups:
            group["lr"] = self.asked["lr"] * min(1.0, left / _DECAY)
        target = model.normalised(batch)
        scores = model.scores(target)
        codes = model.sparse(scores, together=True)
        error = target - codes @ model.decoder
        loss = error.square().mean()
        self._count(codes.detach(), len(batch))
        whole = loss + self.asked["auxiliary_weight"] * self._auxiliary(scores, error.detach())
        self.optimiser.zero_grad(set_to_none=True)
        whole.backward()
        self._step()
        return float(loss.detach())

    def _count(self, codes: Tensor, rows: int) -> None:
        active = codes > 0
        self.idle += rows
        self.idle[active.any(0)] = 0
        self.step, self.place, self.rows = self.step + 1, self.place + 1, self.rows + rows
        if self.model.kind == "batchtopk" and active.any():
            least = codes[active].min()
            keep = _MEMORY if self.step > 1 else 0.0
            self.model.threshold.mul_(keep).add_((1 - keep) * least)

    def _auxiliary(self, scores: Tensor, error: Tensor) -> Tensor:
        """Squared error of what the silent features make of the rest; it pulls at them alone."""
        silent = (self.idle >= self.asked["dead_after"]).nonzero()[:, 0]
        if not len(silent):
            return scores.new_zeros(())
        k = min(self.asked["auxiliary"] or max(1, self.model.width // 2), len(silent))
        made = largest(scores[:, silent], k) @ self.model.decoder[silent]
        # few silent features cannot make much of the rest: their pull is weighed down (ibid., appendix A.2)
        share = min(1.0, len(silent) / (self.asked["auxiliary"] or max(1, self.model.width // 2)))
        return share * (error - made).square().mean()

    def _step(self) -> None:
        decoder = self.model.decoder
        assert decoder.grad is not None
        with torch.no_grad():
            decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder  # lengths do not change
            self.optimiser.step()
            decoder.div_(decoder.norm(dim=1, keepdim=True))


def _like(ours: Tensor, found: Tensor) -> Tensor:
    """A tensor of a file, which has to be what ours is."""
    if (found.shape, found.dtype) != (ours.shape, ours.dtype) or not bool(torch.isfinite(found).all()):
        raise ValueError(f"{found.dtype} of shape {tuple(found.shape)}, or not finite")
    return found.to(ours.device)


def _first(batches: Batches) -> Tensor:
    for batch in batches(0):
        _check(batch)
        return batch
    raise _nothing(0)


def _check(batch: Tensor) -> None:
    if batch.ndim != 2 or not len(batch) or not torch.isfinite(batch).all():
        found = f"shape {tuple(batch.shape)}, or not finite"
        raise InputError("batches", found=found, expected="finite activations (n >= 1, width)")


def _nothing(epoch: int) -> InputError:
    return InputError("batches", found=f"none in epoch {epoch}", expected="at least one")
