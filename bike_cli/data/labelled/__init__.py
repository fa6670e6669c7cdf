"""Videos whose classes are known: training sets, evaluation sets, and draws from them."""
