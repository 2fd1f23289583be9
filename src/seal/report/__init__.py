"""Run directory -> tables; pure functions of the store."""
