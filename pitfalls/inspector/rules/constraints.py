"""Rules about what stops a text early, and about words that are forced or forbidden (lesson 10)."""
