"""Representation misdirection (RMU): losses on the activations of one module instead of the output.

Source: Li et al., arXiv 2403.03218. The paper writes squared norms; the authors' code and OpenUnlearning's take the
mean over the H components, and so do these: the paper's losses are H times theirs, and the ratio of forget to retain
part, which the retain weight sets, is the same. The authors' mean runs over all positions of a batch, padding too,
OpenUnlearning's over the positions of each answer's own tokens and then over answers. Here it runs over all rows of
``hidden``: one supervised position, one vote.
"""

from torch import Tensor


def rmu(hidden: Tensor, direction: Tensor, steering_coefficient: float = 6.5) -> Tensor:
    """‖h − c·u‖² / H per token, [1, M]: forget rows are steered to c times a fixed random unit vector u.

    c is a matter of model and layer: 6.5 is the authors' command for Zephyr-7B, layer 7, with retain weight 1200 (their
    program's own defaults are 20 and 100, OpenUnlearning's configuration has 2 and 1, on WMDP too). They draw u's
    components uniformly from [0, 1) before scaling it to unit length.
    """
    return (hidden.float() - steering_coefficient * direction.float()).square().mean(dim=-1)[None]


def rmu_retain(hidden: Tensor, reference_hidden: Tensor) -> Tensor:
    """‖h − h_ref‖² / H per token, [1, M]: RMU's retain loss, activations of retain rows stay where they were."""
    return (hidden.float() - reference_hidden.detach().float()).square().mean(dim=-1)[None]
