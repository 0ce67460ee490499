"""The toxicity classifier: losses, batches, training, metrics, thresholds, calibration, scoring, explanation."""
