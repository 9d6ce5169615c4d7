"""A device without values, where whatever would make the host wait for a GPU is an error.

PyTorch's meta device has tensors with shapes and no values, so that whoever asks for one (``item``,
``float``, ``if``, ``cpu``, ``nonzero``) gets an error of PyTorch's own. A copy to a GPU from memory that is
not pinned asks for nothing and waits all the same; ``no_waiting`` tells it by the calls.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "meta"
NO_VALUE = (RuntimeError, NotImplementedError, TypeError)
"""What PyTorch raises where a value is asked for."""

_MADE_OF_NUMBERS = (torch.tensor, torch.as_tensor, Tensor.new_tensor)
_COPIES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)


class WaitsForTheDevice(AssertionError):
    """A copy that would make the host wait."""


class _Copies(TorchDispatchMode):
    def __init__(self, pinned: dict[int, Tensor]) -> None:
        super().__init__()
        self.pinned = pinned

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        options = options or {}
        result = operation(*arguments, **options)
        if operation.overloadpacket in _COPIES and result.device.type == NAME:
            source = arguments[1] if operation.overloadpacket is torch.ops.aten.copy_ else arguments[0]
            asynchronous = options.get("non_blocking") or True in arguments[2:]
            if source.device.type == "cpu" and not (asynchronous and source.data_ptr() in self.pinned):
                raise WaitsForTheDevice(f"{operation} of {source.dtype} {list(source.shape)}")
        return result


class _Numbers(TorchFunctionMode):
    """Tensors made of Python's numbers are copied below what a dispatch mode sees."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if function in _MADE_OF_NUMBERS and result.device.type == NAME:
            raise WaitsForTheDevice(f"{function.__name__} of {arguments[-1]!r}")
        return result


@contextlib.contextmanager
def no_waiting(pinned: dict[int, Tensor]) -> Iterator[None]:
    """Raise WaitsForTheDevice at a copy to the device that blocks, or is not from ``pinned`` memory."""
    with _Numbers(), _Copies(pinned):
        yield


def pretend_to_pin(monkeypatch) -> dict[int, Tensor]:
    """Have ``pin_memory`` take a note, as there is no driver to pin anything; return the notes."""
    pinned: dict[int, Tensor] = {}  # by address, which stays taken as long as the tensor is here
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.setdefault(self.data_ptr(), self))
    return pinned
