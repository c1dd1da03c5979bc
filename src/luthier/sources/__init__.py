"""Where a model is: at hand under a name, in a folder, a run, or on a hub.  No torch."""
