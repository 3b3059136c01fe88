"""Gates: their formulas, the layouts that place them, and the model that carries them."""
