"""Weights are read from the two kinds of files without running what is in them, and fit a network or are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fguidance.state_dicts import fill, read_state_dict, require_shapes


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return {"weight": torch.randn(2, 3), "bias": torch.arange(2.0)}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_both_kinds_of_files(weights, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "a.pt")
    save_file(weights, tmp_path / "a.safetensors")
    assert equal(read_state_dict(tmp_path / "a.pt"), weights)
    assert equal(read_state_dict(str(tmp_path / "a.safetensors")), weights)


def test_nothing_of_the_callers_is_shared(weights) -> None:
    found = read_state_dict(weights)
    found["bias"].zero_()
    assert float(weights["bias"].sum()) == 1


class Harmful:
    """Runs on the way out of a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def test_what_a_pickle_would_run_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": Harmful()}, tmp_path / "harmful.pt")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        read_state_dict(tmp_path / "harmful.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("suffix", ("pt", "safetensors"))
def test_a_truncated_file(weights, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "pt":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"a\.{suffix} cannot be read as weights"):
        read_state_dict(path)


def test_a_network_is_filled_and_ready(weights) -> None:
    with torch.device("meta"):
        network = nn.Linear(3, 2)
    network = fill(network, weights, "a layer")
    assert torch.equal(network(torch.eye(3)), weights["weight"].T + weights["bias"])
    assert not network.training
    assert not network.weight.requires_grad


def test_messages_name_a_few_and_count_the_others() -> None:
    expected = {f"layer{number}": torch.Size((1,)) for number in range(5)}
    with pytest.raises(ValueError, match="does not fit it: it lacks layer0, layer1, layer2 and 2 more"):
        require_shapes({}, expected, "it")
    with pytest.raises(ValueError, match=r"it has other shapes: layer4 is \(2,\) and not \(1,\)$"):
        require_shapes({name: torch.zeros(1 + (name == "layer4")) for name in expected}, expected, "it")


def test_counters_of_batches_may_be_missing_and_nothing_else() -> None:
    with torch.device("meta"):
        network, again = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    state = {name: torch.ones(3) for name in ("weight", "bias", "running_mean", "running_var")}
    assert fill(network, state, "it").num_batches_tracked.item() == 0
    assert len(state) == 4
    with pytest.raises(ValueError, match=r"it lacks running_var$"):
        fill(again, {name: tensor for name, tensor in state.items() if name != "running_var"}, "it")


def test_what_holds_no_state_dict(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be a mapping of tensors or a path, not int"):
        read_state_dict(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'a' is int"):
        read_state_dict({"a": 3})  # type: ignore[dict-item]
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_state_dict(tmp_path / "missing.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(TypeError, match="must hold a mapping of names to tensors, not list"):
        read_state_dict(tmp_path / "list.pth")
    (tmp_path / "corrupt.pth").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        read_state_dict(tmp_path / "corrupt.pth")
