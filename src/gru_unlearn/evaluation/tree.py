"""Answers to one prompt, merged into a tree of tokens, so that a common beginning is computed once.

The prompt is common to a row's answer, its paraphrase and its wrong answers, and these often begin alike too. A
transformer evaluates the tree in one forward pass when every token attends to its ancestors only and takes its depth
as position (Miao et al., SpecInfer, arXiv 2305.09781).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Token sequences by their distinct prefixes. A node is a token after a prefix; parents come first."""

    tokens: list[int]
    parents: list[int]
    """each node's parent; -1 for a first token"""
    depths: list[int]
    paths: list[list[int]]
    """for each sequence its nodes, in order"""

    @property
    def is_chain(self) -> bool:
        """Whether nothing branches: then plain causal attention is enough."""
        return self.parents == list(range(-1, len(self.tokens) - 1))

    @property
    def displacement(self) -> int:
        """How far all nodes together stand behind their places in their own sequences: 0 for a chain."""
        return sum(node - depth for node, depth in enumerate(self.depths))

    def attention(self) -> npt.NDArray[np.bool_]:
        """[N, N]: node i sees node j where j is i or an ancestor of i."""
        sees = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees


def token_tree(sequences: Sequence[Sequence[int]]) -> TokenTree:
    """Merge token sequences along their common prefixes."""
    tree = TokenTree([], [], [], [])
    nodes: dict[tuple[int, int], int] = {}
    for sequence in sequences:
        node, path = -1, []
        for depth, token in enumerate(sequence):
            parent, node = node, nodes.setdefault((node, token), len(tree.tokens))
            if node == len(tree.tokens):
                tree.tokens.append(token)
                tree.parents.append(parent)
                tree.depths.append(depth)
            path.append(node)
        tree.paths.append(path)
    return tree


def tree_inputs(trees: Sequence[TokenTree], pad_token_id: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """A model's arguments for a batch of trees, padded on the right to the longest.

    Chains get a mask ``[B, N]``; branching trees an additive mask ``[B, 1, N, N]`` of ``dtype``, and positions.
    """
    length = max(len(tree.tokens) for tree in trees)
    ids = torch.full((len(trees), length), pad_token_id)
    for row, tree in zip(ids, trees, strict=True):
        row[: len(tree.tokens)] = torch.tensor(tree.tokens)
    if all(tree.is_chain for tree in trees):
        lengths = torch.tensor([len(tree.tokens) for tree in trees])
        return {"input_ids": ids, "attention_mask": (torch.arange(length) < lengths[:, None]).long()}
    sees = np.zeros((len(trees), length, length), dtype=bool)
    sees[:] = np.eye(length, dtype=bool)  # padding sees itself: a row that sees nothing would become NaN
    positions = torch.zeros(len(trees), length, dtype=torch.long)
    for number, tree in enumerate(trees):
        size = len(tree.tokens)
        sees[number, :size, :size] = tree.attention()
        positions[number, :size] = torch.tensor(tree.depths)
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(torch.from_numpy(~sees), torch.finfo(dtype).min)
    return {"input_ids": ids, "attention_mask": mask[:, None], "position_ids": positions}
