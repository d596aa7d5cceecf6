"""Published weights: read without running what is in the file, and put into a network strictly or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

StateDict = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)
NAMED = 3
"""How many offending keys a message names."""


def read_state_dict(source: StateDict | str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a state dict, by name, on the CPU.

    Args:
        source: a mapping of names to tensors, or the path of one: ``.safetensors``, or a file that `torch.save` wrote,
            which is read with ``weights_only=True``.

    Returns:
        A new dictionary; the tensors of a mapping are copied, so that nothing the caller has is shared.

    Raises:
        TypeError: neither a mapping nor a path, or something in it is no tensor.
        FileNotFoundError: no such file.
        ValueError: the file is corrupt, or holds more than tensors.
    """
    if isinstance(source, Mapping):
        return {name: tensor.detach().clone() for name, tensor in _tensors(source, "state dict").items()}
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"state_dict_or_path must be a mapping of tensors or a path, not {type(source).__name__}")
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return _tensors(_read(path), str(path))


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of other bytes can end PyTorch's reader in any way
        first = str(error).partition("\n")[0]
        raise ValueError(f"{path} cannot be read as weights, it is corrupt or holds other things: {first}") from error


def _tensors(found: object, what: str) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise TypeError(f"{what} must hold a mapping of names to tensors, not {type(found).__name__}")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise TypeError(f"{what} must hold tensors only, but {name!r} is {type(tensor).__name__}")
    return dict(found)


def require_shapes(state: StateDict, expected: Mapping[str, torch.Size], what: str) -> None:
    """Check that a state dict has exactly the expected keys and shapes.

    Args:
        state: names to tensors.
        expected: names to shapes.
        what: the network, for the message.

    Raises:
        ValueError: keys that are missing or too many, or a shape that differs; the first few are named.
    """
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    shapes = [name for name in expected if name in state and state[name].shape != expected[name]]
    differing = [f"{name} is {tuple(state[name].shape)} and not {tuple(expected[name])}" for name in shapes]
    for problem, names in (("lacks", missing), ("has besides", unexpected), ("has other shapes:", differing)):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            raise ValueError(f"the state dict does not fit {what}: it {problem} {', '.join(names[:NAMED])}{more}")


def fill(network: Network, state: StateDict, what: str) -> Network:
    """Put weights into a network that was made on the meta device, and make it ready for inference.

    Args:
        network: without storage.
        state: exactly its parameters and buffers; they are taken over and not copied. Counters of batches, which only
            training uses and older files have not, may be missing.
        what: the network, for messages.

    Returns:
        The network, in evaluation mode, none of its parameters asking for a gradient.

    Raises:
        ValueError: as `require_shapes`.
    """
    own = network.state_dict()
    counters = [name for name in own if name.rpartition(".")[2] == "num_batches_tracked" and name not in state]
    state = dict(state) | {name: torch.zeros((), dtype=torch.int64) for name in counters}
    require_shapes(state, {name: tensor.shape for name, tensor in own.items()}, what)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)
