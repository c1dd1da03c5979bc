"""What stands before every route: who may come in, how much, and what a request may be."""
