"""A package that owns its loop is timed from inside: each forward pass waits until it is asked for."""

import os
import threading
from collections.abc import Callable

import torch
from timing import serve
from torch import Tensor, nn


class Gated(nn.Module):
    """A network whose forward passes wait."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.threads = network, 1
        self.asked, self.waiting = threading.Semaphore(0), threading.Semaphore(0)

    def forward(self, image: Tensor) -> Tensor:
        """As the network does, when it may."""
        self.waiting.release()
        self.asked.acquire()
        torch.set_num_threads(self.threads)  # which OpenMP keeps by thread
        output: Tensor = self.network(image)
        return output

    def repeat(self, calls: int) -> None:
        """Let so many iterations pass, and return when the next one has its batch: all from one forward to another."""
        self.threads = torch.get_num_threads()
        for _ in range(calls):
            self.asked.release()
            self.waiting.acquire()


def serve_training(network: nn.Module, train: Callable[[nn.Module], object]) -> None:
    """Train in this thread, which some packages want to be the main one, and serve in another."""
    gate = Gated(network)
    parameters = sum(each.numel() for each in network.parameters())

    def answer() -> None:
        gate.waiting.acquire()
        serve(gate.repeat, parameters=parameters, precision="32-true")
        os._exit(0)

    threading.Thread(target=answer).start()
    train(gate)
