"""What others wrote runs here where it can be killed: templates and tokenizers in child processes."""
