"""Tensors that are sharded as their parameters are (FSDP2); everything else passes through as it is."""

from torch import Tensor, nn


def splits_rows(param: nn.Parameter) -> bool:
    """Whether a sharded matrix has its rows on several processes."""
    return any(placed.is_shard() and not placed.is_shard(0) for placed in getattr(param, "placements", ()))


def align(grad: Tensor, param: nn.Parameter) -> Tensor:
    """The gradient, sharded as its parameter: autograd replicates some of a DTensor's, or leaves partial sums."""
    placements = getattr(param, "placements", None)
    if placements is None or grad.placements == placements:  # type: ignore[attr-defined]
        return grad
    return grad.redistribute(placements=placements)  # type: ignore[attr-defined]


def distribute(whole: Tensor, param: nn.Parameter) -> Tensor:
    """A whole tensor, sharded as its parameter is."""
    if not hasattr(param, "device_mesh"):
        return whole
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - slow to import

    mesh, placements = param.device_mesh, param.placements  # type: ignore[attr-defined]
    return distribute_tensor(whole.to(param.device), mesh, placements)


def join(part: Tensor, param: nn.Parameter) -> Tensor:
    """A process's part, as the whole tensor that it belongs to."""
    if not hasattr(param, "device_mesh"):
        return part
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 - slow to import

    mesh, placements = param.device_mesh, param.placements  # type: ignore[attr-defined]
    return DTensor.from_local(part, mesh, placements, run_check=False, shape=param.shape, stride=param.stride())
