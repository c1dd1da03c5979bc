"""The processes that do the work: `python -m luthier.worker RUN_DIRECTORY` trains, the modules of
this package serve one kind of request each.  What starts them meets them in files and pipes only."""
