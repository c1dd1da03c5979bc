"""What the page asks, beside what OpenAI has."""
