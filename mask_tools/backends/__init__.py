"""Ways to run an export: processes of this machine, or a Ray cluster."""
