"""All settings by what they are about, for people: those of this project first, then what transformers adds."""

from gru_unlearn.runs.setting_names import known_settings

GROUPS = {
    "Models, rows and folders": """
        model forget retain train_rows made_rows retain_choice held_out retain_model base_model control_rows output_dir
        allow_overlap trust_remote_code
    """,
    "Method": """
        objective rectification robust objective_args retain_loss retain_weight retain_placement new_gradient_weight
        retain_batch_size retain_every forget_candidates hidden_module alternative_field
    """,
    "Steps": """
        learning_rate max_steps num_train_epochs per_device_train_batch_size gradient_accumulation_steps warmup_steps
        weight_decay stop_when_forgotten stop_at_forget_prob go_on_to stop_below_kept
        stop_without_progress seed
    """,
    "What is measured, shown and kept": """
        eval_strategy eval_steps eval_on_start eval_max_rows eval_suite eval_data eval_forget_split eval_unseen_split
        keep_best report_examples logging_steps telemetry logging_nan_inf_filter
    """,
    "What a model reads": """
        max_length allow_truncation question_tag answer_tag chat_template_kwargs published_ends pad_token eos_token
    """,
    "Weights, adapters and memory": """
        dtype bf16 trainable_params use_peft lora_r lora_alpha lora_dropout lora_target_modules load_in_4bit
        attn_implementation retain_direction_dtype retain_direction_device
    """,
}
"""Title → settings."""

INHERITED = "Further settings of transformers (TrainingArguments)"


def grouped_settings() -> dict[str, list[str]]:
    """Title → settings, each once; those that have no place here are left out."""
    groups = {title: names.split() for title, names in GROUPS.items()}
    named = {name for names in groups.values() for name in names}
    known = known_settings()
    others = [name for name in known.names if name not in named and name not in known.refused]
    return groups | {INHERITED: others}
