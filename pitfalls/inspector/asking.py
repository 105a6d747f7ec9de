"""Whether a bare text asks a model for something, as far as the text alone can tell: it never proves it.

A headline may be a question, and a recipe consists of instructions: what a chat model does with the text tells more.
"""

import re

from pitfalls.language import N_

QUESTION_MARK = re.compile(r"[?？؟]\)*$")  # not behind quotation marks: someone in a story asks
INSTRUCTION = re.compile(  # (?-i:[a-z]): titles have a capital there
    r"(?:please,? (?-i:[a-z])|(?:can|could|would|will) you\b|you are an?\b|help (?:me|us)\b|"
    r"i(?:'d| would)? (?:need|want|like) (?:help|you|your|to (?:learn|know))\b|how to (?-i:[a-z])|"
    r"(?:act as|add \d|choose the|count (?:from|to)|extract (?:all|the)|find (?:a|all|the)|fix (?:my|the|this)|"
    r"imagine you|let's (?:play|talk)|make (?:a|an|me)|pretend|say (?:hello|hi)|show me|solve|think of an?)\b|"
    r"(?:answer|calculate|classify|compare|compute|convert|correct|create|define|describe|discuss|explain|generate|give|"
    r"identify|implement|list|name|outline|provide|recommend|rewrite|suggest|summari[sz]e|tell|translate|write)\s+"
    r"(?!(?:of|or|and)\b)[a-z0-9])",
    re.IGNORECASE,
)
IMPERATIVE = re.compile(  # any other word at the beginning that a determiner follows, as in "Sketch a plan"
    r"(?!(?i:\w+(?:ing|ed)|about|across|after|against|all|along|among|around|as|at|before|behind|below|beneath|beside|"
    r"between|beyond|both|but|by|despite|down|during|even|except|for|from|given|half|if|in|inside|into|is|it's|just|"
    r"like|near|not|of|off|on|once|only|or|out|outside|over|past|quite|rather|since|so|such|than|that|there|through|"
    r"throughout|to|toward|towards|under|until|up|upon|was|were|what|when|where|while|with|within|without)\b)"
    r"[A-Z][a-z]+ (?:an?|the|this|these|those|my|me|how|why|whether|\d+|two|three|four|five|ten) (?-i:[a-z])"
)
WORD_ORDER = re.compile(  # of a question that was typed without its mark, as in a search box
    r"(?:(?:what|who|why|when|where|which)(?: is| are| was| were| do| does| did| should| can| would|'s)|"
    r"how(?: \w+)?(?: is| are| was| were| do| does| did| should| can| many| much)|"
    r"(?:do|does|did|are|should|shall|may|is) (?:i|we|you|there))\b[^.!?\n]*$",
    re.IGNORECASE,
)
HOW_TO_ANSWER = re.compile(  # behind a question at the beginning
    r"[^.!?\n]*\?\s+(?:please|reply|respond|answer|explain|give|write|tell|return|use|keep|be|in (?:one|two|a))\s"
    r"(?!.*\?)",
    re.IGNORECASE | re.DOTALL,
)
UNFINISHED = re.compile(  # a text that is to be completed mostly stops in the middle of a sentence
    r"(?:[=>,({\[:]|\b(?:an?|the|of|to|in|on|at|by|for|from|with|as|and|or|but|because|that|which|who|in the))$",
    re.IGNORECASE,
)
ANSWER_HERE = re.compile(r"(?:\banswer ?:?|\n ?A ?:)$", re.IGNORECASE)
CHOICES = re.compile(r"^\(?A[.):].*\n\(?B[.):]", re.MULTILINE)


def asks(text: str) -> str:
    """What a text looks like, in English: "a question", "an instruction", "a test", or nothing of these."""
    text = text.strip()
    end = text[-40:]
    if QUESTION_MARK.search(end):
        return N_("a question")
    here = ANSWER_HERE.search(end)
    if here and CHOICES.search(text) and text.count(here[0].strip()) == 1:  # where there are more, examples precede
        return N_("a test")
    if UNFINISHED.search(end) or "\nA:" in text or "=>" in end:
        return ""
    if WORD_ORDER.match(text):
        return "a question"
    if (
        INSTRUCTION.match(text)
        or HOW_TO_ANSWER.match(text)
        or (IMPERATIVE.match(text) and re.search(r"[.!。]$|:\s", text))
    ):
        return N_("an instruction")
    return ""
