"""The pictures with sliders: one widget for each pitfall, and one for the loop.

    pitfalls.widgets.NextToken(model, tokenizer, "I am a cat.")    # as the last line of a cell

Each shows the call that its lesson is about, made by transformers itself, and says what came of it. Python ships what
the model said, and the JavaScript beside it draws that under every setting, in a notebook and on a page without a
kernel. Only what needs the model, such as another prompt, asks the kernel.
"""

from pitfalls.extra import course_extra

with course_extra():
    from pitfalls.widgets.chat_template import ChatTemplate
    from pitfalls.widgets.length import Length
    from pitfalls.widgets.loop import Loop
    from pitfalls.widgets.next_token import NextToken
    from pitfalls.widgets.padding import Padding

__all__ = ["ChatTemplate", "Length", "Loop", "NextToken", "Padding"]
