"""Rules about images in a prompt (lesson 8)."""
