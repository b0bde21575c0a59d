"""The monitor: live service levels, error budgets and burn-rate alerts."""
