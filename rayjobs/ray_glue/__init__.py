"""What the jobs share of Ray: connecting, fitting, reporting, running Ray Data and remote tasks."""
