"""The fixed pictures and targets that are explained again and again, checked before anything else happens."""
