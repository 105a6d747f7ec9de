"""A generate call and what came of it: recorded, watched, and checked against rules."""
