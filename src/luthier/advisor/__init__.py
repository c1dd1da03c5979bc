"""The advisor: settings for some rows, a model and a machine, each with its reason; how a run is doing."""
