"""A soak of the whole: three instances on real web servers, where everything happens at random, under load."""
