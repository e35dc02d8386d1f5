"""Models that know given rows, and models that never saw them: targets and retain models (``gru finetune``)."""
