"""Rules about what `apply_chat_template` was given, and what is lost there (lesson 7)."""
