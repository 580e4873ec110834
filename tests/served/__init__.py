"""vLLM with patterns, against transformers: `make test-vllm`, in an environment that has vLLM."""
