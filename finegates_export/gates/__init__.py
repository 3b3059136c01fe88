"""Gates: their formulas, the layouts that place them, the model that carries them, the folder that keeps them."""
