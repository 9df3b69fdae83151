"""The tables of routes, resources and tasks, which register the features."""
