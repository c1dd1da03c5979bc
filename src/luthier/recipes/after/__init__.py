"""What is done with a result: open, evaluate, compare, export."""
