"""From files or the hub to padded, paired batches, and the built-in benchmark's rows.

Reading order: :mod:`sources` (where rows are), :mod:`json_files` and :mod:`csv_files` (files → rows), :mod:`layouts`
(which fields hold what), :mod:`records` (rows → records), :mod:`overlap` (rows in two sets), :mod:`rendering`
(conversations → text), :mod:`answer_spans` (where the answers stand in it), :mod:`transcripts` (records → text in
pieces), :mod:`text_tokens` (pieces → token ids), :mod:`encoding` (token ids with labels), :mod:`encoder_settings`
(settings → encoder), :mod:`other_answers` (to the same questions), :mod:`model_room` (whether a model can read them),
:mod:`collation` (examples → padded batches), :mod:`pairing` (a forget example and its retain partners), :mod:`people`
(the invented people of the benchmark).
"""

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data.collation import Batch, collate, pad_examples
from gru_unlearn.data.encoder_settings import encoder_for
from gru_unlearn.data.encoding import CutAnswers, Encoder, Example
from gru_unlearn.data.other_answers import attach_alternatives, with_alternatives
from gru_unlearn.data.overlap import canonical, check_apart, count_overlap, count_repeated, describe_rows, overlapping
from gru_unlearn.data.pairing import ForgetRetainDataset, PairSampler, collate_pairs
from gru_unlearn.data.records import Record, Turn, fingerprint, load_records, to_record
from gru_unlearn.data.rendering import TextFormat
from gru_unlearn.data.sources import Row, read_rows

__all__ = [
    "Batch",
    "CutAnswers",
    "Encoder",
    "Example",
    "ForgetRetainDataset",
    "PairSampler",
    "Record",
    "Row",
    "TextFormat",
    "Turn",
    "attach_alternatives",
    "canonical",
    "check_apart",
    "collate",
    "collate_pairs",
    "count_overlap",
    "count_repeated",
    "describe_rows",
    "encoder_for",
    "evenly_spread",
    "fingerprint",
    "load_records",
    "overlapping",
    "pad_examples",
    "read_rows",
    "to_record",
    "with_alternatives",
]
