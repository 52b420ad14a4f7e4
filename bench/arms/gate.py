"""Who owns a loop is timed from inside: each iteration waits until it is asked for."""

import os
import threading
from collections.abc import Callable
from typing import Any

import torch
from timing import serve
from torch import Tensor, nn


class Gate:
    """Where iterations wait; one call is all from one arrival to the next."""

    def __init__(self) -> None:
        self.threads = 1
        self.asked, self.arrived = threading.Semaphore(0), threading.Semaphore(0)

    def wait(self) -> None:
        """In the loop: go on when asked to, with as many threads as the asker has."""
        self.arrived.release()
        self.asked.acquire()
        torch.set_num_threads(self.threads)  # which OpenMP keeps by thread

    def repeat(self, calls: int) -> None:
        """Let so many iterations pass."""
        self.threads = torch.get_num_threads()
        for _ in range(calls):
            self.asked.release()
            self.arrived.acquire()

    def serve(self, train: Callable[[], object], **facts: Any) -> None:
        """Train in this thread, which most loops want to be the main one, and serve in another."""

        def answer() -> None:
            self.arrived.acquire()
            serve(self.repeat, **facts)
            os._exit(0)

        threading.Thread(target=answer).start()
        train()


class Gated(nn.Module):
    """A network whose forward passes wait at a gate."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.gate = network, Gate()

    def forward(self, image: Tensor) -> Tensor:
        """As the network does, when it may."""
        self.gate.wait()
        output: Tensor = self.network(image)
        return output

    def serve(self, train: Callable[[nn.Module], object]) -> None:
        """Train this network, and serve its iterations."""
        parameters = sum(each.numel() for each in self.parameters())
        self.gate.serve(lambda: train(self), parameters=parameters, precision="32-true")
