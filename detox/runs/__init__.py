"""What every run shares: its frozen config, its self-explaining directory, its content-addressed stages."""
