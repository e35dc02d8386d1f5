"""Finding, checking and loading models. Only safetensors, and no code from a model repository unless asked."""
