"""Recipes, one file each: a function of the module's name returns the frozen `Recipe`. Floor 7."""
