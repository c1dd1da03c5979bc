"""What can be known before a weight is loaded: data opened, values decided.  No torch."""
