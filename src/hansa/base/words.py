"""Words as they stand in files."""


def is_number(word: str) -> bool:
    """Whether a word is a number, in any form that Python reads (NaN and infinity too)."""
    try:
        float(word)
    except ValueError:
        return False
    return True
