"""AdamW with an average of the weights, by two processes that share one flat vector of weights.

Two single-threaded processes that each take half of a batch are faster on two cores than one
process with two threads. On a GPU, or one core, it is one process.
"""

import multiprocessing
import os
import time

import numpy as np
import torch

import config


class Shared:
    """The flat vectors and the meeting point of the processes."""

    def __init__(self, parameters, world):
        self.parameters, self.world = parameters, world
        flat = torch.cat([p.data.reshape(-1) for p in parameters])
        self.flat, self.grads = flat, torch.zeros(world, flat.numel(), device=flat.device)
        self.average, self.board = flat.clone(), torch.zeros(4 + world)
        if world > 1:
            for tensor in (self.flat, self.grads, self.average, self.board):
                tensor.share_memory_()
        self.barrier = multiprocessing.get_context("fork").Barrier(world) if world > 1 else None
        self.attach(self.flat)

    def attach(self, vector):
        """Make the parameters views of a flat vector."""
        offset = 0
        for p in self.parameters:
            p.data = vector[offset : offset + p.numel()].view_as(p)
            offset += p.numel()

    def attach_grads(self, rank):
        offset = 0
        for p in self.parameters:
            p.grad = self.grads[rank, offset : offset + p.numel()].view_as(p)
            offset += p.numel()

    def meet(self):
        if self.barrier:
            self.barrier.wait()


def run(shared, rank, loss, seconds, rates, decay, report, warmup):
    """The loop of one process; it owns one slice of the optimiser's state."""
    count = shared.flat.numel()
    part = slice(rank * count // shared.world, (rank + 1) * count // shared.world)
    weights, average, board = shared.flat[part], shared.average[part], shared.board
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    shared.attach_grads(rank)
    start, step, sums = time.time(), 0, []
    while True:
        if rank == 0:
            done = (time.time() - start) / (config.TIME * seconds)
            cosine = 0.5 * (1 + np.cos(np.pi * min(done, 1)))
            board[0] = float(done >= 1)
            board[1] = min(1, (step + 1) / warmup) * (rates[1] + (rates[0] - rates[1]) * cosine)
        shared.meet()
        if board[0] > 0:
            break
        rate = float(board[1])
        shared.grads[rank].zero_()
        value = loss(rank, step)
        value.backward()
        board[4 + rank] = value.item()
        shared.meet()
        total = shared.grads[:, part].mean(0)
        board[2 + rank % 2] = float(total.square().sum())
        shared.meet()
        size = float(board[2 : 2 + min(shared.world, 2)].sum()) ** 0.5
        total *= min(1.0, 1.0 / (size + 1e-6))
        step += 1
        first.lerp_(total, 0.1)
        second.lerp_(total.square_(), 0.01)
        scale = (second / (1 - 0.99**step)).sqrt_().add_(1e-8)
        weights.mul_(1 - 1e-4 * rate).addcdiv_(first, scale, value=-rate / (1 - 0.9**step))
        average.lerp_(weights, 1 - min(decay, (step + 1) / (step + 10)))
        if rank == 0:
            sums.append(float(board[4 : 4 + shared.world].mean()))
            if step % 50 == 0:
                report(step, time.time() - start, float(np.mean(sums)))
                sums.clear()


def fit(parameters, loss, seconds, rates, decay, report, warmup=60, world=None):
    """Minimise loss(rank, step) for some seconds; leaves the averaged weights in `parameters`.

    `loss` draws its own batch and must do so differently for each rank and step. `report` gets
    (step, seconds, mean loss) every 50 steps, with the current average in `Shared.average`.
    """
    parameters = [p for p in parameters if p.requires_grad]
    if world is None:
        world = 2 if parameters[0].device.type == "cpu" and (os.cpu_count() or 1) > 1 else 1
    shared = Shared(parameters, world)
    children = []
    for rank in range(1, world):
        child = multiprocessing.get_context("fork").Process(
            target=run, args=(shared, rank, loss, seconds, rates, decay, report, warmup))
        child.start()
        children.append(child)

    def told(step, elapsed, value):
        report(step, elapsed, value, shared)

    run(shared, 0, loss, seconds, rates, decay, told, warmup)
    for child in children:
        child.join()
    with torch.no_grad():
        shared.flat.copy_(shared.average)
    for p in parameters:
        p.grad = None
    return shared
