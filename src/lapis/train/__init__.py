"""The loop and what stands around it: optimiser, checkpoints, report. Floor 6."""
