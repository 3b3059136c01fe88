"""Several processes that train one model: who takes which rows, and how their losses become one mean.

`torchrun --nproc-per-node N` starts N processes. Each holds the whole model, takes its part of every batch and averages
its gradients with the others'. A mean over a part is not the mean over the batch where parts differ in rows or labels.
So losses are sums over a part, divided by `Processes.average` of what they count: averaged over the processes that is
the batch's sum over the batch's count, and so are the gradients. What every process computes alike, such as the gates'
penalty, stays as it is: the average of equal gradients counts it once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from finegates_export.errors import InputError

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the main one evaluates and writes while they do."""
Average = Callable[[Tensor], Tensor]
"""Brings a count of this process to the mean over all of them."""


def alone(count: Tensor) -> Tensor:
    """The average over one process."""
    return count


@dataclass(frozen=True)
class Processes:
    """Those that take part in a run."""

    number: int = 1
    index: int = 0
    """Of this process, from 0."""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that evaluates, writes and tells."""
        return self.index == 0

    def part(self, batch: list[int]) -> list[int]:
        """This process's rows of a batch; all of them where the batch has too few to go round.

        Every n-th row, as batches are sorted by length: the parts take about equally long.
        """
        return batch if len(batch) < self.number else batch[self.index :: self.number]

    def average(self, count: Tensor) -> Tensor:
        """The mean of a number, or of each of several, over the processes; no gradient flows through it."""
        if self.number == 1:
            return count
        total = count.detach().clone().float()
        torch.distributed.all_reduce(total)
        return total / self.number


def join_processes() -> Processes:
    """Find the other processes of this run; the first call connects them.

    Raises:
        InputError: a launcher was asked for another number of them.
    """
    from accelerate import PartialState

    # Told nothing, accelerate trains by itself in each of several processes on processors.
    on_processors = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
    state = PartialState(cpu=on_processors, timeout=PATIENCE)
    check_launch(state.num_processes)
    return Processes(state.num_processes, state.process_index)


def check_launch(number: int) -> None:
    """Refuse to train in fewer processes than a launcher was asked for.

    `accelerate launch --cpu --num_processes 2` starts one process without a word; it leaves the address of a main
    process behind, and no number of processes.

    Args:
        number: processes that take part.

    Raises:
        InputError: it is not the number that was asked for.
    """
    asked = os.environ.get("WORLD_SIZE")
    if asked is None and number == 1 and "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ:
        asked = "several"
    if asked is not None and asked != str(number):
        raise InputError(
            f"{asked} processes were requested, but {number} would train; start them with "
            "torchrun --nproc-per-node N --no-python finegates-train"
        )
