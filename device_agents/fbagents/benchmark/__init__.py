"""Google's benchmark_model behind the agent protocol."""
