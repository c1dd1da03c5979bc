"""One model on some rows: what is asked, what it finds likely, what it writes, row by row."""
