"""Where an export runs: processes of this machine, or a Ray cluster."""
