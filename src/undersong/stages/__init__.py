"""The arrows of figure 2: each stage turns what is known into one embedding."""
