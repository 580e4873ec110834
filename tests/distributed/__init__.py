"""Plans for many processes against prices, schemes and exchanges written here, without the planner's own code."""
