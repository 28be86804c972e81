"""Records to numbers, events, a sentence and a page. Pure functions of a record that know nothing of models."""
