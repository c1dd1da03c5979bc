"""The surface that OpenAI's clients speak to."""
