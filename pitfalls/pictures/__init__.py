"""Figures of tokens, probabilities, padding, templates and memory, for lessons and for your own calls.

    pitfalls.pictures.padding(inputs, tokenizer)    # as the last line of a cell

Every function returns a closed matplotlib `Figure`: leave it as the last line of a cell to show it, or `savefig` it.
The title states the finding. Prompt, new, special and padding tokens differ in shade and hatch, not only in colour.
"""

from pitfalls.extra import course_extra

with course_extra():
    from pitfalls.pictures.figures import animate, chat, generation, loop, memory, next_token, padding, token_strip

__all__ = ["animate", "chat", "generation", "loop", "memory", "next_token", "padding", "token_strip"]
