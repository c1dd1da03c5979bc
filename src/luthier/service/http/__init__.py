"""The HTTP API: OpenAI's fine-tuning surface under `/v1`, everything else under `/api`."""
