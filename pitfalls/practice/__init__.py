"""Predictions, and exercises that answer back.

    pitfalls.practice.one_sentence(answer, model, tokenizer)    # as the last line of the exercise's own cell
    pitfalls.practice.progress("04")                            # what is done, and what is open

Each exercise is a function that takes an answer, and returns what it proves or what is still wrong with it.
"""

from pitfalls.extra import course_extra

with course_extra():
    from pitfalls.practice.feedback import Feedback
    from pitfalls.practice.final_exam import exam
    from pitfalls.practice.lesson_01_loading import memory_of_7b, new_keyword
    from pitfalls.practice.lesson_02_tokenizing import count_tokens, mask_and_positions
    from pitfalls.practice.lesson_03_generating import greedy_loop, text_probability
    from pitfalls.practice.lesson_04_length import one_sentence, tokens_left
    from pitfalls.practice.lesson_05_decoding_mode import modes_for_tasks, sampling_by_hand
    from pitfalls.practice.lesson_06_padding_side import batch_like_single, left_pad_by_hand
    from pitfalls.practice.lesson_07_prompt_template import template_by_hand, two_turns, why_nothing
    from pitfalls.practice.lesson_08_your_own_code import guard, name_the_mistakes
    from pitfalls.practice.lesson_09_next_steps import min_p_by_hand, settings_of_words
    from pitfalls.practice.lesson_10_under_control import answer_probability, no_digits
    from pitfalls.practice.lesson_11_speed_and_memory import cache_of_a_config, largest_batch
    from pitfalls.practice.lesson_12_conversations import clean_text, parse_calls
    from pitfalls.practice.lesson_13_production import format_and_server, whole_reply
    from pitfalls.practice.prediction import predict
    from pitfalls.practice.tasks import progress

__all__ = [
    "Feedback",
    "answer_probability",
    "batch_like_single",
    "cache_of_a_config",
    "clean_text",
    "count_tokens",
    "exam",
    "format_and_server",
    "greedy_loop",
    "guard",
    "largest_batch",
    "left_pad_by_hand",
    "mask_and_positions",
    "memory_of_7b",
    "min_p_by_hand",
    "modes_for_tasks",
    "name_the_mistakes",
    "new_keyword",
    "no_digits",
    "one_sentence",
    "parse_calls",
    "predict",
    "progress",
    "sampling_by_hand",
    "settings_of_words",
    "template_by_hand",
    "text_probability",
    "tokens_left",
    "two_turns",
    "whole_reply",
    "why_nothing",
]
