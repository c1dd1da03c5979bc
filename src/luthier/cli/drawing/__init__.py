"""What is drawn in a terminal: the only user of rich."""
