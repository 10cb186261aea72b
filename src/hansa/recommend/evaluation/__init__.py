"""How good recommendations are: errors of ratings, rankings of all items, and what is simple."""
