"""Files to rows: bytes and text within limits, one reader for each kind of file."""
