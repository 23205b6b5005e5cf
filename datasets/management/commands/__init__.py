"""Commands of the datasets app, one module each."""
