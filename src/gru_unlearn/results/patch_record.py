"""What a published patch says of itself: what it carries, what it leaves out, and what that does to the run's rows."""

from gru_unlearn.results.file_model import FileModel
from gru_unlearn.results.verdict import Said


class PatchedRows(FileModel):
    """Rows of one kind under the original, under the run's model, and under the original with the patch."""

    rows: int
    tokens: int
    original: float
    """mean probability of the answers"""
    run: float
    patched: float
    effect: float
    """mean |Δ log p| of a token, original to run"""
    left: float
    """mean |Δ log p| of a token, patched to run"""
    largest: float
    """of these"""
    said: Said | None = None
    """what is answered with the patch; of a patch that is the run's adapters nobody asked"""
    said_before: Said | None = None
    """what the original answers to the same rows"""


class PatchRecord(FileModel):
    """One patch."""

    exact: bool
    """whether it holds the very adapters that the run trained"""
    rank: int
    error: float
    """‖ΔW − patch‖ / ‖ΔW‖ over the linear layers"""
    embedding_rows: int = 0
    """tokens whose embeddings it carries"""
    embedding_error: float | None = None
    left_out: float = 0.0
    """share of ‖ΔW‖² in tensors that it does not carry"""
    rows: dict[str, PatchedRows]
    """by the set's name in files"""
    weight_files: list[str]
    """SHA-256 of the original's files of weights, in the order of their names"""
    run_verdict: str | None = None
    """the sentence on the run's model, where the patch is judged otherwise"""

    @property
    def loads_everywhere(self) -> bool:
        """Whether it changes linear layers alone, as vLLM and llama.cpp have it."""
        return not self.embedding_rows
