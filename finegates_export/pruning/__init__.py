"""From settled gates to a smaller model: fold, plan, shrink."""
