"""A run from its config to its folder: decided, set up, trained, resumed, explained."""
