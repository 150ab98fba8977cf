"""What is minimised: the learner and one file an objective. Floor 5."""
