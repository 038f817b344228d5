"""The embedded data sets `scenes:N` and `objects:N`, drawn from a seed."""
