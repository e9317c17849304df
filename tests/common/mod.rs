pub fn default_model() -> Option<std::path::PathBuf> { Some("/tmp/models/SmolLM2-135M-Instruct.Q4_1.gguf".into()) }
