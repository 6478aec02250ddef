"""How many tokens a text or a request is for a model, and whether that is exact."""
