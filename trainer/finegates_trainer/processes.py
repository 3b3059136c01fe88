"""Several processes that train one model: how they share rows, and how their losses become one mean.

`torchrun --nproc-per-node N` starts N processes. Each has the whole model, takes its part of every batch and averages
its gradients with the others'. A mean over a part is not the mean over the batch if parts differ in rows or labels. So
losses are sums over a part, divided by `Processes.average` of their count: averaged over processes, that is the batch's
sum divided by the batch's count, and likewise for gradients. Terms that every process computes alike, such as the
gates' penalty, need no change: the average of equal gradients counts them once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor

from finegates_export.errors import InputError

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, while the main one evaluates and writes."""
Part = TypeVar("Part")
Average = Callable[[Tensor], Tensor]
"""Turns a count of this process into the mean over all processes."""


def alone(count: Tensor) -> Tensor:
    """The average over one process."""
    return count


@dataclass(frozen=True)
class Processes:
    """The processes of a run."""

    number: int = 1
    index: int = 0
    """This process's number, from 0."""

    @property
    def is_main(self) -> bool:
        """Whether this process evaluates, writes and reports."""
        return self.index == 0

    def part(self, batch: list[Part]) -> list[Part]:
        """This process's rows, or groups of rows, of a batch; all of them if there are fewer than processes.

        Every n-th: batches are sorted by length, so the parts take similar time.
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
        InputError: a launcher was asked for a different number.
    """
    from accelerate import PartialState

    # By default, accelerate on CPUs trains independently in each process.
    on_processors = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
    state = PartialState(cpu=on_processors, timeout=PATIENCE)
    check_launch(state.num_processes)
    return Processes(state.num_processes, state.process_index)


def check_launch(number: int) -> None:
    """Refuse to train in fewer processes than a launcher was asked for.

    `accelerate launch --cpu --num_processes 2` silently starts one process; it sets the address of a main process, but
    no number of processes.

    Args:
        number: number of processes.

    Raises:
        InputError: it is not the requested number.
    """
    asked = os.environ.get("WORLD_SIZE")
    if asked is None and number == 1 and "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ:
        asked = "several"
    if asked is not None and asked != str(number):
        raise InputError(
            f"{asked} processes were requested, but {number} would train; start them with "
            "torchrun --nproc-per-node N --no-python finegates-train"
        )
