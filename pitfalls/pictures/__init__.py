"""Figures of tokens, probabilities, padding, templates, memory and measurements, for lessons and for your own calls.

    pitfalls.pictures.padding(inputs, tokenizer)    # as the last line of a cell

Every function returns a closed matplotlib `Figure`: leave it as the last line of a cell to show it, or `savefig` it.
The title says what there is to see. Prompt, new, special and padding tokens differ in more than their colour.
"""

from pitfalls.extra import course_extra

with course_extra():
    from pitfalls.pictures.animation import animate
    from pitfalls.pictures.candidates import generation, loop, next_token
    from pitfalls.pictures.charts import bars, curves, dots
    from pitfalls.pictures.chats import chat
    from pitfalls.pictures.guesses import guesses
    from pitfalls.pictures.lengths import lengths
    from pitfalls.pictures.presence import presence
    from pitfalls.pictures.shares import shares
    from pitfalls.pictures.slots import slots
    from pitfalls.pictures.tokens import padding, token_strip
    from pitfalls.pictures.weights import memory

__all__ = [
    "animate",
    "bars",
    "chat",
    "curves",
    "dots",
    "generation",
    "guesses",
    "lengths",
    "loop",
    "memory",
    "next_token",
    "padding",
    "presence",
    "shares",
    "slots",
    "token_strip",
]
