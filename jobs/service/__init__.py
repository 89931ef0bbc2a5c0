"""The query service: the live generation, asked over HTTP."""
