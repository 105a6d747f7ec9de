"""Rules about the cache of keys and values that a call is given (lesson 11)."""
